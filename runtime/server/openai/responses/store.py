"""The responses that later requests may go on from, in memory and as many as fit.

OpenAI keeps them for a month. Here the newest are kept, until the program ends: a client that sends a whole
conversation with each request needs none of them.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.chat.messages import Message

_MAX_RESPONSES = 1000
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as its client got it, the items that were new in its request, and the conversation up to its end.

    `num_bytes` is about what all of that takes.
    """

    response: Mapping[str, Any]
    input_items: tuple[Mapping[str, Any], ...]
    messages: tuple[Message, ...]
    num_bytes: int

    @property
    def id(self) -> str:
        return str(self.response["id"])

    @property
    def items(self) -> tuple[Mapping[str, Any], ...]:
        """The output, and the input before it."""
        return (*self.response["output"], *self.input_items)


class ResponseStore:
    """The newest responses. The event loop's thread only, but for `find_item`."""

    def __init__(self, max_responses: int = _MAX_RESPONSES, max_bytes: int = _MAX_BYTES) -> None:
        self._max_responses, self._max_bytes = max_responses, max_bytes
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._items: dict[str, list[Mapping[str, Any]]] = {}  # by id, those of the newest responses last
        self._num_bytes = 0

    def put(self, stored: StoredResponse) -> None:
        """Keep a response, at the cost of the oldest ones."""
        self._responses[stored.id] = stored
        self._num_bytes += stored.num_bytes
        for item in reversed(stored.items):
            self._items.setdefault(str(item.get("id")), []).append(item)
        while len(self._responses) > self._max_responses or self._num_bytes > self._max_bytes:
            self.remove(next(iter(self._responses)))

    def get(self, response_id: str) -> StoredResponse | None:
        return self._responses.get(response_id)

    def remove(self, response_id: str) -> StoredResponse | None:
        removed = self._responses.pop(response_id, None)
        if removed is not None:
            self._num_bytes -= removed.num_bytes
            for item in removed.items:
                self._forget(item)
        return removed

    def find_item(self, item_id: str) -> Mapping[str, Any] | None:
        """Return an item of a kept response, the newest that has it. Any thread."""
        found = self._items.get(item_id)
        return found[-1] if found else None

    def _forget(self, item: Mapping[str, Any]) -> None:
        item_id = str(item.get("id"))
        # A new list, since another thread may look at the old one.
        others = [each for each in self._items[item_id] if each is not item]
        if others:
            self._items[item_id] = others
        else:
            del self._items[item_id]

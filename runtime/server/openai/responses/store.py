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


class ResponseStore:
    """The newest responses. The event loop's thread only."""

    def __init__(self, max_responses: int = _MAX_RESPONSES, max_bytes: int = _MAX_BYTES) -> None:
        self._max_responses, self._max_bytes = max_responses, max_bytes
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._num_bytes = 0

    def put(self, stored: StoredResponse) -> None:
        """Keep a response, at the cost of the oldest ones."""
        self._responses[stored.id] = stored
        self._num_bytes += stored.num_bytes
        while len(self._responses) > self._max_responses or self._num_bytes > self._max_bytes:
            _id, oldest = self._responses.popitem(last=False)
            self._num_bytes -= oldest.num_bytes

    def get(self, response_id: str) -> StoredResponse | None:
        return self._responses.get(response_id)

    def remove(self, response_id: str) -> StoredResponse | None:
        removed = self._responses.pop(response_id, None)
        self._num_bytes -= removed.num_bytes if removed else 0
        return removed

    def find_item(self, item_id: str) -> Mapping[str, Any] | None:
        """Return an item of a kept response, the newest that has it."""
        for stored in reversed(self._responses.values()):
            for item in (*stored.response["output"], *stored.input_items):
                if item.get("id") == item_id:
                    found: Mapping[str, Any] = item
                    return found
        return None

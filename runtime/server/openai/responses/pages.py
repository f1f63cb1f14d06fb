"""Lists by pages, as OpenAI's API gives them: newest first unless asked for otherwise, and on from an item's id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.checked import JsonObject, wrong
from runtime.errors import RequestError
from runtime.server.asking.fields import Integer, Text

LIMIT = Integer("limit", "How many at most.", low=1, high=100)
ORDER = Text("order", "desc, the newest first, or asc.")
AFTER = Text("after", "The id of the item before the first one that is wanted.")
_DEFAULT_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for. `after` None: its beginning."""

    limit: int
    is_ascending: bool
    after: str | None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Page":
        """Read a URL's query. Raises RequestError."""
        limit = query.get(LIMIT.name, "")
        fields = JsonObject({**query, LIMIT.name: int(limit)} if limit.isdecimal() and len(limit) < 10 else dict(query))
        order = ORDER.value_in(fields, "desc")
        if order not in ("asc", "desc"):
            raise wrong(ORDER.name, "asc or desc")
        return cls(LIMIT.value_in(fields, _DEFAULT_LIMIT), order == "asc", AFTER.value_in(fields, None))

    def of_items(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return this part of `items`, which are oldest first. Raises RequestError when `after` is none of theirs."""
        ordered = list(items if self.is_ascending else reversed(items))
        begin = 0
        if self.after is not None:
            found = next((index for index, item in enumerate(ordered) if item["id"] == self.after), None)
            if found is None:
                raise RequestError(f"'{AFTER.name}' is the id of no item of this list", AFTER.name)
            begin = found + 1
        shown = ordered[begin : begin + self.limit]
        return {
            "object": "list",
            "data": shown,
            "has_more": begin + len(shown) < len(ordered),
            # OpenAI's schema wants texts, also where a page is empty.
            "first_id": shown[0]["id"] if shown else "",
            "last_id": shown[-1]["id"] if shown else "",
        }

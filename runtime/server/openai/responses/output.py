"""The output of a response in OpenAI's newer API: items that grow, and the events of their growth.

An item is opened before its first piece and closed before the next item, so a client always knows what it reads.
Pure: what the model does comes in, the events' contents go out.
"""

import secrets
from collections.abc import Iterator
from typing import Any

from runtime.chat.answer import AnswerEvent, ArgumentsPart, CallBegun, CallEnded, ReasoningPart, TextPart
from runtime.server.answering.streaming import Lazy

Event = dict[str, Any]
_COMPLETED, _IN_PROGRESS, _INCOMPLETE = "completed", "in_progress", "incomplete"


class Output:
    """The items of one response, as far as they are."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._open: _Text | _Call | None = None

    @property
    def is_thinking(self) -> bool:
        """Whether the item that grows is thinking."""
        return isinstance(self._open, _Text) and self._open.kind == "reasoning"

    def take(self, event: AnswerEvent, logprobs: list[Lazy]) -> Iterator[Event]:
        """Yield the API's events for one of the answer's; `logprobs` belong to its text."""
        match event:
            case TextPart(text):
                yield from self._grow_text("message", text, logprobs)
            case ReasoningPart(text):
                yield from self._grow_text("reasoning", text, None)
            case CallBegun(_index, call_id, name):
                yield from self._begin(_Call(len(self.items), call_id, name))
            case ArgumentsPart(_index, text) if isinstance(self._open, _Call):
                yield self._open.grow(text)
            case CallEnded():
                yield from self.end()

    def end(self, *, is_cut_off: bool = False) -> Iterator[Event]:
        """Close what is open."""
        if self._open is not None:
            yield from self._open.end(_INCOMPLETE if is_cut_off else _COMPLETED)
            self._open = None

    def end_all(self, *, is_cut_off: bool) -> Iterator[Event]:
        """The same at the end of the answer, which has one item at least: clients look for a first one."""
        if not self.items:
            yield from self._begin(_Text(0, "message"))
        # A call that is whole was closed by its own end, also where a stop string ends the answer.
        yield from self.end(is_cut_off=is_cut_off or isinstance(self._open, _Call))

    def _grow_text(self, kind: str, text: str, logprobs: list[Lazy] | None) -> Iterator[Event]:
        if not isinstance(self._open, _Text) or self._open.kind != kind:
            yield from self._begin(_Text(len(self.items), kind))
        assert isinstance(self._open, _Text)
        yield self._open.grow(text, logprobs)

    def _begin(self, opened: "_Text | _Call") -> Iterator[Event]:
        yield from self.end()
        self._open = opened
        self.items.append(opened.item)
        yield from opened.begin()


class _Text:
    """A message with its one part, or thinking with its one."""

    def __init__(self, index: int, kind: str) -> None:
        self.kind = kind
        self._texts: list[str] = []
        self._logprobs: list[Lazy] = []
        self.item: dict[str, Any] = {"type": kind, "id": _new_id(kind), "status": _IN_PROGRESS, "content": []}
        if kind == "message":
            self._event_prefix = "response.output_text"
            self.item["role"] = "assistant"
        else:
            self._event_prefix = "response.reasoning_text"
            self.item["summary"] = []
        self._place = {"item_id": self.item["id"], "output_index": index, "content_index": 0}

    def begin(self) -> Iterator[Event]:
        yield _added(self._place, self.item)
        yield {"type": "response.content_part.added", **self._place, "part": self._part("")}

    def grow(self, text: str, logprobs: list[Lazy] | None) -> Event:
        self._texts.append(text)
        reported = {} if logprobs is None else {"logprobs": logprobs}
        self._logprobs += logprobs or []
        return {"type": f"{self._event_prefix}.delta", **self._place, "delta": text, **reported}

    def end(self, status: str) -> Iterator[Event]:
        text = "".join(self._texts)
        part = self._part(text)
        reported = {"logprobs": self._logprobs} if self.kind == "message" else {}
        yield {"type": f"{self._event_prefix}.done", **self._place, "text": text, **reported}
        yield {"type": "response.content_part.done", **self._place, "part": part}
        self.item |= {"status": status, "content": [part]}
        yield _done(self._place, self.item)

    def _part(self, text: str) -> dict[str, Any]:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs}


class _Call:
    """A call of a function."""

    def __init__(self, index: int, call_id: str, name: str) -> None:
        self._texts: list[str] = []
        self.item: dict[str, Any] = {
            "type": "function_call",
            "id": _new_id("function_call"),
            "call_id": call_id,
            "name": name,
            "arguments": "",
            "status": _IN_PROGRESS,
        }
        self._place = {"item_id": self.item["id"], "output_index": index}

    def begin(self) -> Iterator[Event]:
        yield _added(self._place, self.item)

    def grow(self, text: str) -> Event:
        self._texts.append(text)
        return {"type": "response.function_call_arguments.delta", **self._place, "delta": text}

    def end(self, status: str) -> Iterator[Event]:
        self.item |= {"status": status, "arguments": "".join(self._texts)}
        reported = {"name": self.item["name"], "arguments": self.item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **self._place, **reported}
        yield _done(self._place, self.item)


_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


def _new_id(kind: str) -> str:
    return f"{_PREFIXES[kind]}_{secrets.token_hex(16)}"


def _added(place: dict[str, Any], item: dict[str, Any]) -> Event:
    return {"type": "response.output_item.added", "output_index": place["output_index"], "item": item}


def _done(place: dict[str, Any], item: dict[str, Any]) -> Event:
    return {"type": "response.output_item.done", "output_index": place["output_index"], "item": item}

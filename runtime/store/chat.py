"""A chat as a value. Its messages form a tree by `parent`; `leaf` names the end of the branch that is shown."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

MAX_CHAT_BYTES = 8 << 20  # of texts and attachments; a novel has one
MAX_MESSAGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Times in milliseconds since 1970. `stats` and `attachments` are the page's own JSON."""

    id: str
    parent: str | None
    role: str
    content: str
    created: int
    reasoning: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)
    attachments: tuple[Mapping[str, Any], ...] = ()
    is_partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """`messages` are in the order they were made, parents before their children."""

    id: str
    title: str
    created: int
    updated: int
    leaf: str | None = None
    is_pinned: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSummary:
    """A line of the list. `snippet` is set by a search that found something in a message."""

    id: str
    title: str
    is_pinned: bool
    created: int
    updated: int
    num_messages: int
    snippet: str | None = None


class ChatChanges(TypedDict, total=False):
    """What can be changed of a chat without sending all of it."""

    title: str
    is_pinned: bool
    leaf: str | None
    settings: Mapping[str, Any]


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000

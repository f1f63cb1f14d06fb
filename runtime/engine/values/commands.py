"""What is asked of slots beside generating: their state, and saving, restoring and emptying their KV cache.

The engine carries a command out between two steps, once the slot it is about is idle. Which files may be written is the
caller's business.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from runtime.engine.values.events import Timings
from runtime.engine.values.request import GenerationRequest

T = TypeVar("T")


class Command(Generic[T]):
    """Something to do between two steps, which gives a T."""


@dataclass(frozen=True, slots=True)
class Work:
    """A request that is being computed: its progress, and when it began by the engine's count."""

    id: int
    request: GenerationRequest
    timings: Timings
    has_new_line: bool


@dataclass(frozen=True, slots=True)
class SlotState:
    """One slot: how many tokens its cache holds, and what it is doing; `work` None is nothing."""

    index: int
    num_tokens: int
    work: Work | None


@dataclass(frozen=True, slots=True)
class Saved:
    """What went into a file or came out of it."""

    num_tokens: int
    num_bytes: int


@dataclass(frozen=True)
class ListSlots(Command[tuple[SlotState, ...]]):
    """Report what each slot is doing."""


@dataclass(frozen=True)
class EraseSlot(Command[int]):
    """Forget a slot's cache; gives how many tokens it held."""

    slot: int


@dataclass(frozen=True)
class SaveSlot(Command[Saved]):
    """Write a slot's tokens and their KV cache to a file that `llama-server --kv-unified` can restore, too."""

    slot: int
    path: Path


@dataclass(frozen=True)
class RestoreSlot(Command[Saved]):
    """Fill a slot with what a file holds; the slot is empty when that fails."""

    slot: int
    path: Path

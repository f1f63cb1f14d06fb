"""What is asked of slots beside generating: their state, and saving, restoring and emptying their KV cache.

The engine's thread carries a command out between two steps, once the slot it is about is idle. Knows no HTTP; which
files may be written is the caller's business.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from runtime.engine.policy.scheduler import Scheduler
from runtime.engine.policy.sequence import GenerationRequest, Timings
from runtime.errors import EngineError, RequestError, Unavailable

if TYPE_CHECKING:
    from runtime.engine.native import Context

T = TypeVar("T")

# Before the tokens in a file, as llama-server writes them: a token that is none, the layout's version, how many there
# are. After them, how many pictures. Older files hold the tokens alone.
_PACKED, _VERSION = -1, 1
_NUM_WORDS_AROUND = 4


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


class Command(Generic[T]):
    """Something to do for the engine's thread."""

    def is_ready(self, scheduler: Scheduler) -> bool:
        return True

    def run(self, scheduler: Scheduler, context: "Context", now: float) -> T:
        """Raises RequestError or Unavailable when it can't be done."""
        raise NotImplementedError


class ListSlots(Command[tuple[SlotState, ...]]):
    def run(self, scheduler: Scheduler, context: "Context", now: float) -> tuple[SlotState, ...]:
        at_work = {sequence.slot: sequence for sequence in scheduler.sequences}
        states = []
        for slot in scheduler.slots:
            sequence = at_work.get(slot.index)
            work = None
            if sequence is not None:
                work = Work(sequence.id, sequence.request, sequence.timings(now), sequence.has_new_line)
            states.append(SlotState(slot.index, len(slot.tokens), work))
        return tuple(states)


@dataclass(frozen=True)
class _OnIdleSlot(Command[T]):
    slot: int

    def is_ready(self, scheduler: Scheduler) -> bool:
        return not scheduler.slots[self.slot].is_busy


@dataclass(frozen=True)
class EraseSlot(_OnIdleSlot[int]):
    """Forget a slot's cache; returns how many tokens it held."""

    def run(self, scheduler: Scheduler, context: "Context", now: float) -> int:
        return scheduler.erase(self.slot)


@dataclass(frozen=True)
class SaveSlot(_OnIdleSlot[Saved]):
    """Write a slot's tokens and their KV cache to a file that `llama-server --kv-unified` can restore, too."""

    path: Path

    def run(self, scheduler: Scheduler, context: "Context", now: float) -> Saved:
        tokens = scheduler.slots[self.slot].tokens
        if tokens and scheduler.slots[self.slot].lora:  # the file has no place for the scales it would be good for
            raise RequestError(
                f"slot {self.slot} was computed with LoRA adapters; such a slot can't be saved", "id_slot"
            )
        if scheduler.slots[self.slot].has_media:
            raise RequestError(f"slot {self.slot} holds pictures or sounds; such a slot can't be saved", "id_slot")
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            num_bytes = context.save(self.slot, [_PACKED, _VERSION, len(tokens), *tokens, 0], unfinished)
            unfinished.replace(self.path)
        except (OSError, EngineError) as error:
            unfinished.unlink(missing_ok=True)
            raise Unavailable("the slot could not be saved; look for room in the folder of --slot-save-path") from error
        return Saved(len(tokens), num_bytes)


@dataclass(frozen=True)
class RestoreSlot(_OnIdleSlot[Saved]):
    """Fill a slot with what a file holds; the slot is empty when that fails."""

    path: Path

    def run(self, scheduler: Scheduler, context: "Context", now: float) -> Saved:
        if not self.path.is_file():
            raise RequestError(f"there is no saved slot {self.path.name!r}", "filename")
        scheduler.erase(self.slot)
        words = context.saved_words(self.path)
        tokens = unpack(words)
        is_room = scheduler.make_idle_room(len(tokens))
        context.edit(scheduler.take_edits())
        num_bytes = context.load(self.slot, self.path, len(words)) if tokens and is_room else 0
        if not num_bytes or context.num_positions(self.slot) != len(tokens):
            context.cut(self.slot, 0)
            raise RequestError(
                f"{self.path.name!r} can't be restored: it is no saved slot of this model, or doesn't fit beside the "
                "requests that run",
                "filename",
            )
        scheduler.fill(self.slot, tokens)
        return Saved(len(tokens), num_bytes)


def unpack(words: list[int]) -> list[int]:
    """Return the tokens of a file; none when it is of a layout that isn't known, or holds pictures."""
    if not words or words[0] != _PACKED:
        return words
    if len(words) < _NUM_WORDS_AROUND or words[1] != _VERSION or words[2] != len(words) - _NUM_WORDS_AROUND:
        return []
    return words[3:-1]

"""Commands carried out between two steps, on the engine's thread."""

import os
from pathlib import Path
from typing import Any

from runtime.engine.native import Context
from runtime.engine.policy.kv_cache import KVCache
from runtime.engine.policy.scheduler import Scheduler
from runtime.engine.values.commands import Command, EraseSlot, ListSlots, RestoreSlot, Saved, SaveSlot, SlotState, Work
from runtime.errors import EngineError, RequestError, Unavailable

# Before the tokens in a file, as llama-server writes them: a token that is none, the layout's version, how many there
# are. After them, how many pictures. Older files hold the tokens alone.
_PACKED, _VERSION = -1, 1
_NUM_WORDS_AROUND = 4


def is_ready(command: Command[Any], scheduler: Scheduler) -> bool:
    """Whether the slot that a command is about is idle."""
    match command:
        case EraseSlot(slot) | SaveSlot(slot) | RestoreSlot(slot):
            return not scheduler.cache.slots[slot].is_busy
    return True


def carry_out(command: Command[Any], scheduler: Scheduler, context: Context, now: float) -> Any:
    """Return what the command gives. Raises RequestError or Unavailable when it can't be done."""
    match command:
        case ListSlots():
            return _states(scheduler, now)
        case EraseSlot(slot):
            return scheduler.cache.erase(slot)
        case SaveSlot(slot, path):
            return _save(slot, path, scheduler.cache, context)
        case RestoreSlot(slot, path):
            return _restore(slot, path, scheduler.cache, context)
    raise AssertionError(f"{command} is no command of this engine's")


def _states(scheduler: Scheduler, now: float) -> tuple[SlotState, ...]:
    at_work = {sequence.slot: sequence for sequence in scheduler.sequences}
    states = []
    for slot in scheduler.cache.slots:
        sequence = at_work.get(slot.index)
        work = None
        if sequence is not None:
            work = Work(sequence.id, sequence.request, sequence.timings(now), sequence.has_new_line)
        states.append(SlotState(slot.index, len(slot.tokens), work))
    return tuple(states)


def _save(slot: int, path: Path, cache: KVCache, context: Context) -> Saved:
    tokens = cache.slots[slot].tokens
    if tokens and cache.slots[slot].lora:  # the file has no place for the scales it would be good for
        raise RequestError(f"slot {slot} was computed with LoRA adapters; such a slot can't be saved", "id_slot")
    if cache.slots[slot].has_media:
        raise RequestError(f"slot {slot} holds pictures or sounds; such a slot can't be saved", "id_slot")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        num_bytes = context.save(slot, [_PACKED, _VERSION, len(tokens), *tokens, 0], unfinished)
        unfinished.replace(path)
    except (OSError, EngineError) as error:
        unfinished.unlink(missing_ok=True)
        raise Unavailable("the slot could not be saved; look for room in the folder of --slot-save-path") from error
    return Saved(len(tokens), num_bytes)


def _restore(slot: int, path: Path, cache: KVCache, context: Context) -> Saved:
    if not path.is_file():
        raise RequestError(f"there is no saved slot {path.name!r}", "filename")
    cache.erase(slot)
    words = context.saved_words(path)
    tokens = unpack(words)
    is_usable = context.are_tokens(tokens) and cache.make_idle_room(len(tokens))
    context.edit(cache.take_edits())
    num_bytes = context.load(slot, path, len(words), len(tokens)) if tokens and is_usable else 0
    if not num_bytes or context.num_positions(slot) != len(tokens):
        context.cut(slot, 0)
        raise RequestError(
            f"{path.name!r} can't be restored: it is no saved slot of this model, or doesn't fit beside the "
            "requests that run",
            "filename",
        )
    cache.fill(slot, tokens)
    return Saved(len(tokens), num_bytes)


def unpack(words: list[int]) -> list[int]:
    """Return the tokens of a file; none when it is of a layout that isn't known, or holds pictures."""
    if not words or words[0] != _PACKED:
        return words
    if len(words) < _NUM_WORDS_AROUND or words[1] != _VERSION or words[2] != len(words) - _NUM_WORDS_AROUND:
        return []
    return words[3:-1]

"""Whose turn it is. What one client asks for at once is a group of sequences, and groups share alike.

The next place is for the group that has fewest. When none is left, a group with two more than the one that waits gives
back its youngest's. So a group that is alone may have all places, no other waits for long because of it, the oldest of
each group is never disturbed, and places go back and forth no more often than others come.

In a step, the oldest prompt leaves a part to those of other groups: a short one is there at once, and a long one loses
little. Nothing here changes anything.
"""

from collections import Counter
from collections.abc import Collection, Iterable

from runtime.engine.policy.kv_cache import KVCache
from runtime.engine.policy.prefix import common_prefix_length
from runtime.engine.policy.sequence import Sequence

# A prompt waits for another that is computing at least so many tokens of their common beginning.
_WORTH_WAITING = 64
_SHARE_OF_OTHERS = 2  # the oldest prompt leaves half of a step to others


def num_places(running: Iterable[Sequence]) -> Counter[object]:
    """Count the places that each group has."""
    return Counter(sequence.group for sequence in running)


def next_in_turn(
    waiting: Iterable[Sequence], running: Iterable[Sequence], passed_over: Collection[Sequence]
) -> Sequence | None:
    """Return who waits of the group with fewest places, among equals the first; None when all are passed over."""
    places = num_places(running)
    candidates = (sequence for sequence in waiting if sequence not in passed_over)
    return min(candidates, key=lambda sequence: places[sequence.group], default=None)


def givers_for(sequence: Sequence, running: Collection[Sequence], cache: KVCache) -> list[Sequence] | None:
    """Return who must give back their places for this sequence, mostly nobody; None when it has to wait."""
    givers: list[Sequence] = []
    wanted = sequence.params.slot
    while not _has_room(sequence, running, cache, givers):
        is_taken = wanted is not None and not givers and not cache.slots.is_free(wanted)
        giver = _next_to_give(running, sequence, givers, slot=wanted if is_taken else None)
        if giver is None:
            return None
        givers.append(giver)
    return givers


def _has_room(sequence: Sequence, running: Collection[Sequence], cache: KVCache, givers: Collection[Sequence]) -> bool:
    """Whether there are a slot and cells for a sequence, once the givers have given back theirs."""
    slots, wanted = cache.slots, sequence.params.slot
    if not (slots.is_free(wanted) or any(wanted in (None, giver.slot) for giver in givers)):
        return False
    staying = [other for other in running if other not in givers]
    given = sum(len(slots[giver.slot].tokens) for giver in givers if giver.slot is not None)
    promised = sum(other.num_pending for other in staying)
    # What a slot keeps for this sequence is counted as idle but won't be given up, and need not be computed either.
    return not staying or len(sequence.tokens) + promised < slots.num_free_cells + slots.num_idle_cells + given


def is_worth_waiting(sequence: Sequence, running: Collection[Sequence], cache: KVCache) -> bool:
    """Whether a prompt that is being computed will soon have much more of this one's beginning to share."""
    alike = [other for other in running if other.num_pending > 1 and other.lora == sequence.lora]
    if not (alike and sequence.params.uses_cache):
        return False
    place = cache.place_for(sequence)
    keep = place.keep if place else 0
    return any(
        common_prefix_length(other.tokens, sequence.tokens) - max(keep, other.num_computed) >= _WORTH_WAITING
        for other in alike
    )


def _next_to_give(
    running: Collection[Sequence], sequence: Sequence, givers: Collection[Sequence], *, slot: int | None = None
) -> Sequence | None:
    """Return who gives back its place, after `givers`, for another's sake; None when nobody has to.

    It is the youngest of the largest group: the least is lost. With `slot` it can be only who has that one.
    """
    places = num_places(each for each in running if each not in givers)
    others = [
        each
        for each in running
        if each not in givers and slot in (None, each.slot) and places[each.group] >= places[sequence.group] + 2
    ]
    return youngest_of_largest(others, places)


def youngest_of_largest(sequences: Collection[Sequence], places: Counter[object]) -> Sequence | None:
    """Return the last of those whose group has most places; None of nobody."""
    return max(reversed(list(sequences)), key=lambda each: places[each.group], default=None)


def in_turn(prompts: Collection[Sequence]) -> list[Sequence]:
    """Order prompts: the oldest, those of other groups, the shortest first, then the rest of its own group's."""
    if not prompts:
        return []
    oldest, *rest = prompts
    others = sorted((each for each in rest if each.group != oldest.group), key=lambda each: each.num_pending)
    return [oldest, *others, *(each for each in rest if each.group == oldest.group)]


def num_left_to_others(prompts: Collection[Sequence], budget: int) -> int:
    """Return how many tokens of a step's budget the first prompt leaves to those of other groups."""
    oldest, *rest = prompts
    wanted = sum(each.num_pending_alike for each in rest if each.group != oldest.group)
    return min(wanted, budget // _SHARE_OF_OTHERS)

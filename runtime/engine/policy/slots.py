"""Which sequence of the KV cache a request gets, and what it finds there already.

A slot keeps its tokens after its request has ended. A later prompt that begins with these tokens doesn't compute them
again. While another request still uses these tokens, both slots share their cells: a system prompt is computed once for
all. Shared cells are counted once for each slot, which errs on the safe side.

All slots share one pool of `num_cells` cells, a token each, so what idle slots keep is given up when the pool is short.
Knows nothing of llama.cpp: the caller carries out the cuts.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from runtime.engine.policy.prefix import common_prefix_length
from runtime.engine.values.edits import Parked
from runtime.engine.values.media import is_stand_in, whole_media

# Fewer tokens than this are computed again sooner than an idle slot's cache is given up for them.
_WORTH_SHARING = 16


@dataclass(eq=False, slots=True)
class Slot:
    """One sequence of the KV cache: the tokens whose keys and values it holds, stand-ins of pictures among them.

    At most the first `num_shared` of its cells belong to other slots too. `is_shifted` says that tokens were dropped
    before some of them, which those were computed with: no other text may use them. Neither may one that wants its LoRA
    adapters at other scales than `lora`.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    is_busy: bool = False
    last_used: int = 0
    num_shared: int = 0
    is_shifted: bool = False
    lora: tuple[float, ...] = ()

    @property
    def has_media(self) -> bool:
        return any(map(is_stand_in, self.tokens))

    def clear(self) -> None:
        self.tokens.clear()
        self.num_shared = 0
        self.is_shifted = False


@dataclass(frozen=True, slots=True)
class Place:
    """A slot for a prompt, whose first `keep` tokens are there already: in the slot itself, a donor's, or parked."""

    slot: Slot
    keep: int
    donor: Slot | None = None
    parked: Parked | None = None

    @property
    def num_kept(self) -> int:
        """How many of the slot's own tokens stay."""
        return 0 if self.donor or self.parked else self.keep


class Slots:
    """All slots of a context. `is_cuttable`: the model's memory can drop the end of a sequence."""

    def __init__(self, num_slots: int, num_cells: int, *, is_cuttable: bool) -> None:
        self._slots = [Slot(index) for index in range(num_slots)]
        self._num_cells = num_cells
        self._is_cuttable = is_cuttable
        self._clock = 0

    @property
    def num_free_cells(self) -> int:
        return self._num_cells - sum(len(slot.tokens) for slot in self._slots)

    @property
    def num_idle_cells(self) -> int:
        """Cells that giving up idle slots would give back."""
        return sum(len(slot.tokens) for slot in self._slots if not slot.is_busy)

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def is_free(self, wanted: int | None) -> bool:
        """Whether the wanted slot, or with None any, is idle."""
        return not (all(slot.is_busy for slot in self._slots) if wanted is None else self._slots[wanted].is_busy)

    def best_for(self, prompt: Tokens[int], *, wanted: int | None = None, lora: tuple[float, ...] = ()) -> Place | None:
        """Return where a prompt is best computed; None when all slots, or the `wanted` one, are busy.

        At least one token of the prompt is always left to compute, since only that gives logits.
        """
        idle = [slot for slot in self._slots if not slot.is_busy]
        if wanted is not None:
            slot = self._slots[wanted]
            return None if slot.is_busy else Place(slot, self._num_reusable(slot, prompt, lora))
        if not idle:
            return None
        place = self._best_idle(idle, prompt, lora)
        if not self._is_cuttable:
            return place
        donor = max(self._slots, key=lambda slot: self._num_reusable(slot, prompt, lora))
        num_shared = self._num_reusable(donor, prompt, lora)
        if num_shared < place.keep + _WORTH_SHARING:
            return place
        spare = self.spare_for(num_shared, but=donor)
        return Place(spare, num_shared, donor) if spare else place

    def spare_for(self, num_tokens: int, *, but: Slot | None = None, wanted: int | None = None) -> Slot | None:
        """Return the idle slot whose cache is worth least, if so many tokens fit when it is given up."""
        slots = self._slots if wanted is None else [self._slots[wanted]]
        idle = (slot for slot in slots if not slot.is_busy and slot is not but)
        spare = min(idle, key=_price, default=None)
        return spare if spare and num_tokens <= self.num_free_cells + len(spare.tokens) else None

    def _best_idle(self, idle: list[Slot], prompt: Tokens[int], lora: tuple[float, ...]) -> Place:
        reusable = {slot.index: self._num_reusable(slot, prompt, lora) for slot in idle}
        best = max(idle, key=lambda slot: (reusable[slot.index], -slot.last_used))
        # A short common beginning is not worth another conversation's cache while there is room elsewhere.
        if 2 * reusable[best.index] < min(len(best.tokens), len(prompt)):
            best = min(idle, key=_price)
        return Place(best, reusable[best.index])

    def _num_reusable(self, slot: Slot, prompt: Tokens[int], lora: tuple[float, ...]) -> int:
        if slot.is_shifted or slot.lora != lora:
            return 0
        common = common_prefix_length(slot.tokens, prompt)
        if common == len(slot.tokens) < len(prompt) and common == whole_media(prompt, common):
            return common
        return whole_media(prompt, min(common, len(prompt) - 1)) if self._is_cuttable else 0

    def acquire(self, place: Place, lora: tuple[float, ...] = ()) -> None:
        self._clock += 1
        slot = place.slot
        slot.last_used = self._clock
        slot.is_busy = True
        slot.is_shifted = False
        slot.lora = lora
        slot.num_shared = min(slot.num_shared, place.num_kept)
        del slot.tokens[place.num_kept :]
        if place.donor:
            slot.tokens[:] = place.donor.tokens[: place.keep]
            slot.num_shared = place.keep
            place.donor.num_shared = max(place.donor.num_shared, place.keep)
        elif place.parked:
            slot.tokens[:] = place.parked.tokens[: place.keep]

    def release(self, slot: Slot) -> None:
        slot.is_busy = False

    def is_held_twice(self, slot: Slot) -> bool:
        """Whether another slot has all the tokens that this one has."""
        num_tokens = len(slot.tokens)
        return any(
            common_prefix_length(other.tokens, slot.tokens) == num_tokens
            for other in self._slots
            if other is not slot and not other.is_shifted and other.lora == slot.lora
        )

    def next_to_give_up(self) -> Slot | None:
        """Return the idle slot that was not used for the longest time; None when there is nothing to give up."""
        idle = [slot for slot in self._slots if not slot.is_busy and slot.tokens]
        return min(idle, key=lambda slot: slot.last_used, default=None)


def _price(slot: Slot) -> tuple[bool, int]:
    """Order slots by what their caches are worth: empty ones first, then the least recently used."""
    return len(slot.tokens) > 0, slot.last_used

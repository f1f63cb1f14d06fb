"""What one step computes: the value that the scheduler hands to llama.cpp."""

from dataclasses import dataclass, field

from runtime.engine.policy.parking import Parked
from runtime.engine.policy.sequence import Sequence, TokenProbs
from runtime.engine.values.media import Media


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One token to compute: its place in its sequence, the slot that holds it, and whether logits are wanted."""

    token: int
    position: int
    slot: int
    wants_logits: bool


@dataclass(frozen=True, slots=True)
class MediaPart:
    """`count` of a picture's vectors to compute, from the one numbered `first` on, which has this position."""

    media: Media
    first: int
    count: int
    position: int
    slot: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Before the step: drop all of a slot but the first `keep` positions; as many tokens, where it has no pictures."""

    slot: int
    keep: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Before the step: let an empty slot share the first `count` positions of another."""

    source: int
    slot: int
    count: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Before the step: drop `discard` tokens of a slot after the first `keep`, and let the rest move up."""

    slot: int
    keep: int
    discard: int


@dataclass(frozen=True, slots=True)
class Park:
    """Before the step: copy a slot's cache out into `parked`, if it has no more than `max_bytes`."""

    slot: int
    parked: Parked
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Before the step: copy a parked cache into an empty slot. The only edit that may fail."""

    slot: int
    parked: Parked


Edit = Cut | Copy | Shift | Park | Restore


@dataclass(slots=True)
class Batch:
    """One step, in the order in which it must be carried out: the edits in theirs, then one decode of all entries.

    llama.cpp takes tokens or vectors in a batch, not both: one with `media` has no entries.

    `parts` says how many tokens of which sequence are in it; `outputs` which entry holds the logits from which a
    sequence's next token is sampled. Where tokens were guessed, the logits of the entries that follow are wanted too.
    `scores` are prompts' tokens whose probabilities are wanted, and the entry whose logits tell the first of them.
    """

    lora: tuple[float, ...] = ()  # the scales of the adapters that it is computed with
    edits: list[Edit] = field(default_factory=list)
    entries: list[BatchEntry] = field(default_factory=list)
    media: MediaPart | None = None
    parts: list[tuple[Sequence, int]] = field(default_factory=list)
    outputs: list[tuple[Sequence, int]] = field(default_factory=list)
    scores: list[tuple[Sequence, int, list[int]]] = field(default_factory=list)

    @property
    def num_outputs(self) -> int:
        return sum(entry.wants_logits for entry in self.entries)

    @property
    def is_empty(self) -> bool:
        return not self.entries and self.media is None


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token chosen for a sequence, the bytes it stands for, whether it ends the text, and how likely it was."""

    sequence: Sequence
    token: int
    piece: bytes
    is_end: bool
    probs: TokenProbs | None = None

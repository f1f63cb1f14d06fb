"""What the scheduler wants done to the KV cache before a step, and the entries of the step itself."""

from dataclasses import dataclass

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


@dataclass(eq=False, slots=True)
class Parked:
    """A cache that was copied out. With `data` None no copy was made, and the entry is worthless."""

    tokens: list[int]
    lora: tuple[float, ...] = ()
    data: bytes | None = None


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

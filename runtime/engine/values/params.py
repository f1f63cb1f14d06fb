"""What an engine is made with."""

from dataclasses import dataclass

from runtime.engine.values.facts import Pooling


@dataclass(frozen=True, slots=True)
class EngineParams:
    """Sizes of an engine: n_ctx and n_batch in tokens, n_ctx for all slots together; max_waiting in requests.

    is_shared lets one request use all of the context while others wait; else each slot has an equal part for its own.
    num_threads None follows what the machine can give, step by step. context_shift lets a full context go on without
    a part of its tokens. Caches that must leave the context are parked in up to parking_bytes. With draft_max, up to so
    many tokens are guessed ahead: by a draft model where there is one, else from the text if has_lookup. pooling None
    is the model's own, and the mean for a model that has none.
    """

    n_ctx: int
    n_batch: int = 512
    num_slots: int = 8
    is_shared: bool = True
    max_waiting: int = 256
    num_threads: int | None = 1
    context_shift: bool = False
    parking_bytes: int = 0
    has_lookup: bool = False
    draft_max: int = 16
    pooling: Pooling | None = None

"""One request from submission to its end: what was asked, what came out, and where it stands.

The frozen classes cross threads; `Sequence` belongs to the engine's thread alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from runtime.engine.sampling import SamplingParams
from runtime.engine.text import TextStream

if TYPE_CHECKING:
    from runtime.engine.guidance import Constraint


class FinishReason(Enum):
    """Why a sequence ended."""

    END_OF_TEXT = "end of text"  # the model chose an end-of-generation token
    STOP_STRING = "stop string"
    LENGTH = "length"  # max_tokens reached or the context is full
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a client asks of the engine. max_tokens None means until the model ends or the context is full.

    When a full context shifts, the first n_keep tokens stay (-1: the whole prompt) and n_discard of the others go (0:
    half of them). slot None is any. Once max_seconds of generating are over, the next line end is the end.
    """

    prompt_tokens: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    cache_prompt: bool = True
    n_keep: int = 0
    n_discard: int = 0
    slot: int | None = None
    max_seconds: float | None = None
    wants_progress: bool = False  # a Progress event for each step of the prompt
    wants_timings: bool = False  # timings with every delta


@dataclass(frozen=True, slots=True)
class Timings:
    """Counts in tokens, times in seconds. Prompt tokens are those computed; cached ones were found in the KV cache.

    Drafted tokens were guessed, accepted ones rightly so.
    """

    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    prompt_seconds: float
    generation_seconds: float
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenProbs:
    """How likely a chosen token was, and the likeliest ones with it, best first: (token, piece, logprob) each."""

    token: int
    piece: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of one step. Text is never a partial character and never part of a stop string.

    `probs` has one for each of `tokens` where the request asks for them.
    """

    text: str
    tokens: tuple[int, ...]
    probs: tuple[TokenProbs, ...] = ()
    slot: int = -1
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the prompt is computed; only for requests that want it. The first one comes with the slot."""

    num_prompt_tokens: int
    timings: Timings
    slot: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every sequence that ends well; `is_truncated` when the context was full on the way."""

    reason: FinishReason
    timings: Timings
    stopping_string: str = ""
    slot: int = -1
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a sequence that the engine could not go on with; `error` is a `HoldallError`."""

    error: Exception


Event = Progress | TextDelta | Finished | Failed
Sink = Callable[[Event], None]


@dataclass(eq=False, slots=True)
class Sequence:
    """A request being generated. Times are seconds of a monotonic clock.

    `tokens` is the prompt and then everything generated, less what a shift dropped; the first `num_computed` of them
    are in the KV cache, in `slot` (None while waiting). What is pending is computed in the next steps; when nothing but
    the newest token is pending the sequence generates, otherwise it prefills: there is no other state. `draft` is a
    guess at the tokens that follow, computed along with the newest one and good for one step.
    """

    id: int
    request: GenerationRequest
    sink: Sink
    tokens: list[int]
    text: TextStream
    constraint: "Constraint | None" = None
    slot: int | None = None
    num_computed: int = 0
    num_cached: int = 0
    num_generated: int = 0
    draft: tuple[int, ...] = ()
    num_drafted: int = 0
    num_accepted: int = 0
    is_truncated: bool = False
    started_at: float | None = None
    first_token_at: float | None = None
    is_cancelled: bool = False
    has_new_line: bool = False  # among what was generated

    @classmethod
    def of(
        cls, sequence_id: int, request: GenerationRequest, sink: Sink, constraint: "Constraint | None" = None
    ) -> "Sequence":
        return cls(sequence_id, request, sink, list(request.prompt_tokens), TextStream(request.stop), constraint)

    @property
    def num_pending(self) -> int:
        return len(self.tokens) - self.num_computed

    def timings(self, now: float) -> Timings:
        """Return how far the sequence is; of its prompt, what is computed by now."""
        started = self.started_at if self.started_at is not None else now
        first = self.first_token_at if self.first_token_at is not None else now
        return Timings(
            num_prompt_tokens=max(min(self.num_computed, len(self.request.prompt_tokens)) - self.num_cached, 0),
            num_cached_tokens=self.num_cached,
            num_generated_tokens=self.num_generated,
            prompt_seconds=first - started,
            generation_seconds=now - first,
            num_drafted_tokens=self.num_drafted,
            num_accepted_tokens=self.num_accepted,
        )

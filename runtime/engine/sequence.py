"""One request from submission to its end: what was asked, what came out, and where it stands.

The frozen classes cross threads; `Sequence` belongs to the engine's thread alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from runtime.engine.sampling import SamplingParams
from runtime.engine.text import TextStream


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
    half of them).
    """

    prompt_tokens: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    cache_prompt: bool = True
    n_keep: int = 0
    n_discard: int = 0


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
class TextDelta:
    """New text of one step. Text is never a partial character and never part of a stop string."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every sequence that ends well; `is_truncated` when the context was full on the way."""

    reason: FinishReason
    timings: Timings
    stopping_string: str = ""
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a sequence that the engine could not go on with; `error` is a `HoldallError`."""

    error: Exception


Event = TextDelta | Finished | Failed
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

    @classmethod
    def of(cls, sequence_id: int, request: GenerationRequest, sink: Sink) -> "Sequence":
        return cls(sequence_id, request, sink, list(request.prompt_tokens), TextStream(request.stop))

    @property
    def num_pending(self) -> int:
        return len(self.tokens) - self.num_computed

    def timings(self, now: float) -> Timings:
        started = self.started_at if self.started_at is not None else now
        first = self.first_token_at if self.first_token_at is not None else now
        return Timings(
            num_prompt_tokens=len(self.request.prompt_tokens) - self.num_cached,
            num_cached_tokens=self.num_cached,
            num_generated_tokens=self.num_generated,
            prompt_seconds=first - started,
            generation_seconds=now - first,
            num_drafted_tokens=self.num_drafted,
            num_accepted_tokens=self.num_accepted,
        )

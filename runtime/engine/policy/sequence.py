"""One request from submission to its end: what was asked, what came out, and where it stands.

The frozen classes cross threads; `Sequence` belongs to the engine's thread alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from runtime.engine.policy.text import TextStream
from runtime.engine.values.media import Media, position, texts_between
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import PromptTooLong, RequestError

if TYPE_CHECKING:
    from runtime.engine.guidance import Constraint
    from runtime.engine.values.facts import ModelInfo


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
    half of them). slot None is any. Once max_seconds of generating are over, the next line end is the end. lora are
    adapters by their numbers, each with its scale; None takes the engine's own. shown_tokens are control tokens whose
    names are part of the text, which otherwise doesn't show them. Where the prompt's tokens stand for pictures or
    sounds, `media` has them in their order.

    The probabilities of the prompt's own tokens come with Progress events, beside each as many of the likeliest as
    `sampling.n_probs` says. They have to be computed, so nothing of the prompt is taken from the cache.
    """

    prompt_tokens: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    cache_prompt: bool = True
    n_keep: int = 0
    n_discard: int = 0
    lora: tuple[tuple[int, float], ...] | None = None
    slot: int | None = None
    max_seconds: float | None = None
    wants_progress: bool = False  # a Progress event for each step of the prompt
    wants_prompt_probs: bool = False  # with the probabilities of its tokens
    wants_timings: bool = False  # timings with every delta
    shown_tokens: frozenset[int] = frozenset()
    media: tuple[Media, ...] = ()

    @property
    def uses_cache(self) -> bool:
        return self.cache_prompt and not self.wants_prompt_probs

    def check(self, info: "ModelInfo", *, max_whole_media: int) -> None:
        """Raise RequestError or PromptTooLong for what can't be computed.

        `max_whole_media` is how many tokens a picture may have whose parts see each other.
        """
        prompt = self.prompt_tokens
        if not info.is_causal:
            raise RequestError("this model makes embeddings only: it can't generate text", "prompt")
        if not prompt:
            raise RequestError("the prompt is empty; give it at least one token", "prompt")
        if len(prompt) >= info.n_ctx:
            raise PromptTooLong(len(prompt), info.n_ctx)
        for text in texts_between(prompt, self.media):
            if text and not 0 <= min(text) <= max(text) < info.n_vocab:
                raise RequestError(f"the prompt has token ids outside the vocabulary of {info.n_vocab}", "prompt")
        largest = max((media.num_tokens for media in self.media if not media.is_causal), default=0)
        if largest > max_whole_media:
            raise RequestError(
                f"a picture takes {largest} tokens, which must be computed at once, and {max_whole_media} can be; "
                f"make it smaller or start with -b {largest}",
                "prompt",
            )
        for token, _bias in self.sampling.logit_bias:
            if isinstance(token, int) and not 0 <= token < info.n_vocab:
                raise RequestError(f"logit_bias: the vocabulary of {info.n_vocab} has no token {token}", "logit_bias")
        if self.slot is not None and not 0 <= self.slot < info.num_slots:
            raise RequestError(f"there is no slot {self.slot}; they are 0 to {info.num_slots - 1}", "id_slot")


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
    """How much of the prompt is computed; only for requests that want it. The first one comes with the slot.

    `probs` are those of the prompt's next tokens, where the request asks for them: all but its first token have one.
    """

    num_prompt_tokens: int
    timings: Timings
    slot: int
    probs: tuple[TokenProbs, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every sequence that ends well; `is_truncated` when the context was full on the way.

    `end_token` is the token that ended the text, which is no part of it, with its probabilities if they are asked for.
    """

    reason: FinishReason
    timings: Timings
    stopping_string: str = ""
    slot: int = -1
    is_truncated: bool = False
    end_token: int | None = None
    end_probs: TokenProbs | None = None


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
    lora: tuple[float, ...] = ()  # the scale of every adapter there is
    slot: int | None = None
    num_computed: int = 0
    num_cached: int = 0
    num_generated: int = 0
    num_scored: int = 1  # of the prompt's tokens, those whose probabilities are told; nothing foretells the first
    media_seconds: float = 0.0  # that went into the prompt's pictures before the sequence was given its place
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

    @property
    def media(self) -> tuple[Media, ...]:
        return self.request.media

    @property
    def next_media(self) -> Media | None:
        """The picture in whose vectors the pending tokens begin; None when they begin with a token."""
        return next((each for each in self.media if each.start <= self.num_computed < each.end), None)

    @property
    def num_pending_alike(self) -> int:
        """How many of the pending tokens can be in one batch: up to the next picture, or to the end of this one."""
        ends = (bound for each in self.media for bound in (each.start, each.end) if bound > self.num_computed)
        return min(ends, default=len(self.tokens)) - self.num_computed

    def position(self, index: int) -> int:
        """Return the model's position of a token, which follows its index but where pictures are before it."""
        return position(self.media, index)

    @property
    def wants_progress(self) -> bool:
        """Whether its client is to hear of the next step."""
        request = self.request
        return self.num_generated == 0 and (request.wants_progress or request.wants_prompt_probs)

    @property
    def num_unscored(self) -> int:
        """How many of the prompt's tokens still are to have their probabilities told."""
        return len(self.request.prompt_tokens) - self.num_scored if self.request.wants_prompt_probs else 0

    def timings(self, now: float) -> Timings:
        """Return how far the sequence is; of its prompt, what is computed by now."""
        started = self.started_at if self.started_at is not None else now
        first = self.first_token_at if self.first_token_at is not None else now
        num_prompt_tokens = len(self.request.prompt_tokens)
        if self.first_token_at is None:  # later a shift may have dropped some that were computed
            num_prompt_tokens = min(self.num_computed, num_prompt_tokens)
        return Timings(
            num_prompt_tokens=max(num_prompt_tokens - self.num_cached, 0),
            num_cached_tokens=self.num_cached,
            num_generated_tokens=self.num_generated,
            prompt_seconds=self.media_seconds + first - started,
            generation_seconds=now - first,
            num_drafted_tokens=self.num_drafted,
            num_accepted_tokens=self.num_accepted,
        )

"""One request from submission to its end, as far as it is. Belongs to the engine's thread alone."""

from dataclasses import dataclass

from runtime.engine.policy.text import TextStream
from runtime.engine.values.events import Sink, Timings
from runtime.engine.values.grammar import Constraint
from runtime.engine.values.media import Media, position
from runtime.engine.values.request import GenerationParams, GenerationRequest


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
    constraint: Constraint | None = None
    lora: tuple[float, ...] = ()  # the scale of every adapter there is
    slot: int | None = None
    num_computed: int = 0
    num_cached: int = 0
    num_generated: int = 0
    # Prompt tokens whose log-probabilities were reported. Starts at 1: the first token has no predecessor.
    num_scored: int = 1
    media_seconds: float = 0.0  # that went into the prompt's pictures before the sequence was given its place
    draft: tuple[int, ...] = ()
    num_drafted: int = 0
    num_accepted: int = 0
    num_drafts: int = 0
    is_truncated: bool = False
    started_at: float | None = None
    first_token_at: float | None = None
    is_cancelled: bool = False
    has_new_line: bool = False  # among what was generated

    @classmethod
    def of(
        cls, sequence_id: int, request: GenerationRequest, sink: Sink, constraint: Constraint | None = None
    ) -> "Sequence":
        return cls(sequence_id, request, sink, list(request.prompt.tokens), TextStream(request.params.stop), constraint)

    @property
    def params(self) -> GenerationParams:
        return self.request.params

    @property
    def group(self) -> object:
        """Who takes turns with others: all that one client asked for at once."""
        return self if self.request.group is None else self.request.group

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.prompt.tokens)

    @property
    def num_pending(self) -> int:
        return len(self.tokens) - self.num_computed

    @property
    def media(self) -> tuple[Media, ...]:
        return self.request.prompt.media

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
        return self.num_generated == 0 and (self.params.wants_progress or self.params.wants_prompt_probs)

    @property
    def num_unscored(self) -> int:
        """How many of the prompt's tokens still are to have their log-probabilities reported."""
        return self.num_prompt_tokens - self.num_scored if self.params.wants_prompt_probs else 0

    def timings(self, now: float) -> Timings:
        """Return how far the sequence is; of its prompt, what is computed by now."""
        started = self.started_at if self.started_at is not None else now
        first = self.first_token_at if self.first_token_at is not None else now
        num_prompt_tokens = self.num_prompt_tokens
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
            num_drafts=self.num_drafts,
        )

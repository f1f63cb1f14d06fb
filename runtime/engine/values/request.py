"""What a client asks of the engine: how to generate, and from which prompt. Frozen, so they may cross threads."""

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from runtime.engine.values.facts import ModelInfo
from runtime.engine.values.media import Media, is_stand_in, texts_between
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import PromptTooLong, RequestError

MAX_TEXT_TOKENS = 2**21  # of one text, and of all texts of a request: more than any context has


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a prompt's text. Not `parses_special`: names of control tokens in it are nothing but text."""

    text: str
    parses_special: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's tokens, stand-ins among them, and what those stand for, in its order."""

    tokens: tuple[int, ...]
    media: tuple[Media, ...] = ()

    @property
    def text_tokens(self) -> tuple[int, ...]:
        return tuple(token for token in self.tokens if not is_stand_in(token)) if self.media else self.tokens


@dataclass(slots=True)
class PromptBuilder:
    """A prompt that is put together of texts' tokens and media."""

    tokens: list[int] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)
    position: int = 0

    def add_text(self, tokens: Tokens[int]) -> None:
        self.tokens += tokens
        self.position += len(tokens)

    def add_media(self, media: Media) -> None:
        """Add one that was made to begin here."""
        assert media.start == len(self.tokens)
        self.tokens += media.stand_ins()
        self.position += media.num_positions
        self.media.append(media)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationParams:
    """How to generate, whatever the prompt. max_tokens None means until the model ends or the context is full.

    When a full context shifts, the first n_keep tokens stay (-1: the whole prompt) and n_discard of the others go (0:
    half of them). slot None is any. Once max_seconds of generating are over, the next line end is the end. lora are
    adapters by their numbers, each with its scale; None takes the engine's own. shown_tokens are control tokens whose
    names are part of the text, which otherwise doesn't show them.

    The probabilities of the prompt's own tokens come with Progress events, beside each as many of the likeliest as
    `sampling.n_probs` says. They have to be computed, so nothing of the prompt is taken from the cache.
    """

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

    @property
    def uses_cache(self) -> bool:
        return self.cache_prompt and not self.wants_prompt_probs


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt to go on with, and how. Requests with one `group` share a client's turns; without one it has its own."""

    prompt: Prompt
    params: GenerationParams = field(default_factory=GenerationParams)
    group: object = field(default=None, compare=False)

    def check(self, info: ModelInfo, *, max_whole_media: int) -> None:
        """Raise RequestError or PromptTooLong for what can't be computed.

        `max_whole_media` is how many tokens a picture may have whose parts see each other.
        """
        prompt, params = self.prompt.tokens, self.params
        if not info.is_causal:
            raise RequestError("this model makes embeddings only: it can't generate text", "prompt")
        if not prompt:
            raise RequestError("the prompt is empty; give it at least one token", "prompt")
        if len(prompt) >= info.n_ctx:
            raise PromptTooLong(len(prompt), info.n_ctx)
        for text in texts_between(prompt, self.prompt.media):
            if text and not 0 <= min(text) <= max(text) < info.n_vocab:
                raise RequestError(f"the prompt has token ids outside the vocabulary of {info.n_vocab}", "prompt")
        largest = max((media.num_tokens for media in self.prompt.media if not media.is_causal), default=0)
        if largest > max_whole_media:
            raise RequestError(
                f"a picture takes {largest} tokens, which must be computed at once, and {max_whole_media} can be; "
                f"make it smaller or start with -b {largest}",
                "prompt",
            )
        for token, _bias in params.sampling.logit_bias:
            if isinstance(token, int) and not 0 <= token < info.n_vocab:
                raise RequestError(f"logit_bias: the vocabulary of {info.n_vocab} has no token {token}", "logit_bias")
        if params.slot is not None and not 0 <= params.slot < info.num_slots:
            raise RequestError(f"there is no slot {params.slot}; they are 0 to {info.num_slots - 1}", "id_slot")

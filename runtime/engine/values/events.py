"""What a client hears of its request: how far the prompt is, text, and an end. Frozen, so they may cross threads."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class FinishReason(Enum):
    """Why a sequence ended."""

    END_OF_TEXT = "end of text"  # the model chose an end-of-generation token
    STOP_STRING = "stop string"
    LENGTH = "length"  # max_tokens reached or the context is full


@dataclass(frozen=True, slots=True)
class Timings:
    """Counts in tokens, times in seconds. Prompt tokens are those computed; cached ones were found in the KV cache.

    Drafts are guesses at the tokens that follow; drafted tokens are all of theirs, accepted ones those guessed rightly.
    """

    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    prompt_seconds: float
    generation_seconds: float
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    num_drafts: int = 0


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

    @property
    def probs(self) -> tuple[TokenProbs, ...]:
        return () if self.end_probs is None else (self.end_probs,)


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a sequence that the engine could not go on with; `error` is a `HoldallError`."""

    error: Exception


Event = Progress | TextDelta | Finished | Failed
Sink = Callable[[Event], None]

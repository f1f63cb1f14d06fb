"""How the next token is chosen; names, order and defaults are llama.cpp's (`common_params_sampling`)."""

from dataclasses import dataclass
from enum import Enum

from runtime.engine.values.answer_settings import MIN_P, REPEAT_PENALTY, SEED, TEMPERATURE, TOP_K, TOP_P
from runtime.engine.values.grammar import Grammar


class Sampler(Enum):
    """A stage of the chain that a token is chosen by, by its name in llama.cpp and its letter in short lists."""

    PENALTIES = ("penalties", "e")
    DRY = ("dry", "d")
    TOP_N_SIGMA = ("top_n_sigma", "s")
    TOP_K = ("top_k", "k")
    TYPICAL_P = ("typ_p", "y")
    TOP_P = ("top_p", "p")
    MIN_P = ("min_p", "m")
    XTC = ("xtc", "x")
    TEMPERATURE = ("temperature", "t")
    ADAPTIVE_P = ("adaptive_p", "a")

    def __init__(self, label: str, letter: str) -> None:
        self.label = label
        self.letter = letter


DEFAULT_ORDER = tuple(stage for stage in Sampler if stage is not Sampler.ADAPTIVE_P)

_ALIASES = {"temp": "temperature", "typ": "typ_p", "typical_p": "typ_p", "nucleus": "top_p"}
_BY_NAME = {stage.label.replace("_", ""): stage for stage in Sampler}
_BY_LETTER = {stage.letter: stage for stage in Sampler}


def sampler_named(name: str) -> Sampler | None:
    """Return the stage that a name means, in any of llama.cpp's spellings (`top_k`, `top-k`, `topk`)."""
    name = name.lower().replace("-", "_")
    return _BY_NAME.get(_ALIASES.get(name, name).replace("_", ""))


def sampler_lettered(letter: str) -> Sampler | None:
    """Return the stage that a letter of llama.cpp's `--sampling-seq` means."""
    return _BY_LETTER.get(letter)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """One request's sampling settings.

    temperature <= 0 is greedy. top_k <= 0, top_p >= 1, min_p <= 0, typical_p >= 1, repeat_penalty == 1,
    top_n_sigma <= 0, xtc_probability <= 0, dynatemp_range <= 0 and dry_multiplier == 0 each switch their sampler off.
    repeat_last_n and dry_penalty_last_n count tokens: 0 is off, -1 the whole context. seed None draws one.
    mirostat 1 or 2 takes the place of the stages in `order`; adaptive_p, when it is in `order`, that of the last choice
    by chance. logit_bias adds to the logit of a token id, or of each token of a text; minus infinity forbids it.
    n_probs > 0 asks for the probabilities of so many of the likeliest tokens at each step: among all tokens, or with
    post_sampling_probs among those that the samplers have left.
    """

    temperature: float = TEMPERATURE.default
    top_k: int = TOP_K.default
    top_p: float = TOP_P.default
    min_p: float = MIN_P.default
    typical_p: float = 1.0
    repeat_penalty: float = REPEAT_PENALTY.default
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    min_keep: int = 0
    order: tuple[Sampler, ...] = DEFAULT_ORDER
    logit_bias: tuple[tuple[int | str, float], ...] = ()
    seed: int | None = SEED.meaning(SEED.default)
    grammar: Grammar | None = None
    n_probs: int = 0
    post_sampling_probs: bool = False

    @property
    def has_dry(self) -> bool:
        return self.dry_multiplier != 0 and self.mirostat == 0 and Sampler.DRY in self.order

    @property
    def needs_preparing(self) -> bool:
        """Whether `Engine.prepare` has something to do for these settings."""
        return self.grammar is not None or self.has_dry

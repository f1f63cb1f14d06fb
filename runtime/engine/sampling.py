"""How the next token is chosen; names, order and defaults are llama.cpp's (`common_params_sampling`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """One request's sampling settings.

    temperature <= 0 is greedy. top_k <= 0, top_p >= 1, min_p <= 0, typical_p >= 1 and repeat_penalty == 1 each
    switch their sampler off. repeat_last_n counts tokens: 0 is off, -1 the whole context. seed None draws one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

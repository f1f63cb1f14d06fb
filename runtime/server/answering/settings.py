"""What llama-server calls `generation_settings`: a request as the engine took it, for the client to read back."""

import math
from collections.abc import Iterable
from typing import Any

from runtime.engine.values.request import GenerationParams


def generation_settings(
    params: GenerationParams,
    *,
    is_streamed: bool,
    forbidden: Iterable[int] = (),
) -> dict[str, Any]:
    """Return every setting of llama-server's, those that aren't built here with the value that means off.

    `forbidden` tokens are told among the biases.
    """
    sampling = params.sampling
    biases = [*sampling.logit_bias, *((token, -math.inf) for token in forbidden)]
    max_tokens = -1 if params.max_tokens is None else params.max_tokens
    return {
        "seed": -1 if sampling.seed is None else sampling.seed,
        "temperature": sampling.temperature,
        "dynatemp_range": sampling.dynatemp_range,
        "dynatemp_exponent": sampling.dynatemp_exponent,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "top_n_sigma": sampling.top_n_sigma,
        "xtc_probability": sampling.xtc_probability,
        "xtc_threshold": sampling.xtc_threshold,
        "typical_p": sampling.typical_p,
        "repeat_last_n": sampling.repeat_last_n,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "dry_multiplier": sampling.dry_multiplier,
        "dry_base": sampling.dry_base,
        "dry_allowed_length": sampling.dry_allowed_length,
        "dry_penalty_last_n": sampling.dry_penalty_last_n,
        "dry_sequence_breakers": list(sampling.dry_sequence_breakers),
        "mirostat": sampling.mirostat,
        "mirostat_tau": sampling.mirostat_tau,
        "mirostat_eta": sampling.mirostat_eta,
        "adaptive_target": sampling.adaptive_target,
        "adaptive_decay": sampling.adaptive_decay,
        "stop": list(params.stop),
        "max_tokens": max_tokens,
        "n_predict": max_tokens,
        "n_keep": params.n_keep,
        "n_discard": params.n_discard,
        "ignore_eos": params.ignore_eos,
        "stream": is_streamed,
        # JSON has no infinity; llama-server writes null for it, too.
        "logit_bias": [{"token": token, "bias": bias if math.isfinite(bias) else None} for token, bias in biases],
        "n_probs": sampling.n_probs,
        "min_keep": sampling.min_keep,
        "grammar": sampling.grammar.source if sampling.grammar else "",
        "grammar_lazy": False,
        "grammar_triggers": [],
        "preserved_tokens": [],
        "chat_format": "Content-only",
        "reasoning_format": "none",
        "reasoning_in_content": False,
        "generation_prompt": "",
        "samplers": [stage.label for stage in sampling.order],
        "speculative.types": "none",
        "timings_per_token": params.wants_timings,
        "post_sampling_probs": sampling.post_sampling_probs,
        "backend_sampling": False,
        "lora": [{"id": index, "scale": scale} for index, scale in params.lora or ()],
    }

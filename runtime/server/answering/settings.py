"""What llama-server calls `generation_settings`: a request as the engine took it, for the client to read back."""

import math
from collections.abc import Iterable
from typing import Any

from runtime.engine.values.request import GenerationParams

# In llama-server's order.
_SAMPLING = (
    *("temperature", "dynatemp_range", "dynatemp_exponent", "top_k", "top_p", "min_p", "top_n_sigma"),
    *("xtc_probability", "xtc_threshold", "typical_p"),
    *("repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),
    *("mirostat", "mirostat_tau", "mirostat_eta", "adaptive_target", "adaptive_decay"),
)


def generation_settings(
    params: GenerationParams, *, is_streamed: bool, speculation: str, forbidden: Iterable[int] = ()
) -> dict[str, Any]:
    """Return every setting of llama-server's, those that aren't built here with the value that means off.

    `speculation` is the engine's; `forbidden` tokens are reported among the biases.
    """
    sampling = params.sampling
    biases = [*sampling.logit_bias, *((token, -math.inf) for token in forbidden)]
    max_tokens = -1 if params.max_tokens is None else params.max_tokens
    return {
        "seed": -1 if sampling.seed is None else sampling.seed,
        **{name: getattr(sampling, name) for name in _SAMPLING},
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
        "speculative.types": speculation,
        "timings_per_token": params.wants_timings,
        "post_sampling_probs": sampling.post_sampling_probs,
        "backend_sampling": False,
        "lora": [{"id": index, "scale": scale} for index, scale in params.lora or ()],
    }

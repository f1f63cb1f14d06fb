"""What the numbers of a GGUF's header must be, whoever has read it: llama.cpp ends its process over others.

Its own rules are in `llama_model_base::load_hparams` (src/llama-model.cpp); those for epsilons in ggml's operations.
"""

import math
from collections.abc import Callable

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS of src/llama-hparams.h
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_AT_LEAST_ONE = ("context_length", "embedding_length", "block_count")
_EPSILONS = (
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.group_norm_epsilon",
)


def fault_in_header(architecture: str, number_of: Callable[[str], float | None]) -> str:
    """Return what is wrong with a header, as the end of a sentence; empty when it may be right.

    `number_of` returns the number under a key, None where there is none.
    """

    def number(name: str) -> float | None:
        return number_of(f"{architecture}.{name}")

    for name in _AT_LEAST_ONE:
        if (value := number(name)) is not None and value < 1:
            return f"its {name} is {value:.0f}"
    for name in _EPSILONS:
        if (value := number(name)) is not None and not (math.isfinite(value) and value >= 0):
            return f"its {name} is {value}"
    num_layers = number("block_count") or 0
    if num_layers > _MAX_LAYERS:
        return f"its block_count is {num_layers:.0f}, and {_MAX_LAYERS} is the most"
    num_predicting = number("nextn_predict_layers") or 0
    if num_predicting > num_layers:
        return f"its nextn_predict_layers are {num_predicting:.0f} of {num_layers:.0f} layers"
    return _fault_in_experts(number)


def _fault_in_experts(number: Callable[[str], float | None]) -> str:
    num_experts, num_groups = number("expert_count") or 0, number("expert_group_count") or 0
    num_used, groups_used = number("expert_used_count"), number("expert_group_used_count") or 0
    if num_experts > _MAX_EXPERTS:
        return f"its expert_count is {num_experts:.0f}, and {_MAX_EXPERTS} is the most"
    # Some models use another number of experts in each layer: then that is a list, and no number.
    if num_used is not None and not min(num_experts, 1) <= num_used <= num_experts:
        return f"its expert_used_count is {num_used:.0f} of {num_experts:.0f} experts"
    if num_groups and (num_groups >= num_experts or num_experts % num_groups):
        return f"its {num_experts:.0f} experts can't be parted into {num_groups:.0f} groups"
    if num_groups > 1 and not 0 < groups_used < num_groups:
        return f"its expert_group_used_count is {groups_used:.0f} of {num_groups:.0f} groups"
    return ""

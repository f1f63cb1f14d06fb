"""The LoRA adapters of a model, and how much of each a sequence is computed with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.engine.native import Context, LoraAdapter
from runtime.engine.values.facts import LoraInfo
from runtime.errors import RequestError

Scales = tuple[float, ...]  # of every adapter, in their order
_FLOAT32_MAX = 3.4e38  # llama.cpp computes with 32-bit floats


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter by the name of its file."""

    name: str
    loaded: LoraAdapter


class Adapters:
    """All adapters, and the scales that hold where a request names none."""

    def __init__(self, adapters: Sequence[Adapter] = (), scales: Scales = ()) -> None:
        self.all = tuple(adapters)
        self.default_scales = scales  # replaced as a whole: any thread may read it

    def described(self) -> tuple[LoraInfo, ...]:
        """Return all adapters with the scales that hold now."""
        return tuple(
            LoraInfo(each.name, scale, each.loaded.task_name, each.loaded.prompt_prefix)
            for each, scale in zip(self.all, self.default_scales, strict=True)
        )

    def scales_for(self, lora: Iterable[tuple[int, float]] | None) -> Scales:
        """Return the scale of every adapter: what the request names, else 0. Raises RequestError for a wrong id."""
        if lora is None:
            return self.default_scales
        scales = [0.0] * len(self.all)
        for index, scale in lora:
            if not 0 <= index < len(scales):
                raise RequestError(f"there is no LoRA adapter {index}; this server has {len(scales)}", "lora")
            if not abs(scale) <= _FLOAT32_MAX:
                raise RequestError(f"the scale of LoRA adapter {index} is no number to compute with", "lora")
            scales[index] = scale
        return tuple(scales)

    def setting_for(self, lora: Iterable[tuple[int, float]] | None) -> Scales:
        """The same as what a cache is marked with: empty where no adapter is applied, as if there were none."""
        scales = self.scales_for(lora)
        return scales if any(scales) else ()

    def apply(self, context: Context, scales: Scales) -> None:
        """Have the next batches computed so. The engine's thread only."""
        if scales != context.scales:
            context.set_adapters([adapter.loaded for adapter in self.all] if scales else (), scales)

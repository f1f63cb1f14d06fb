"""The LoRA adapters of a model, and how much of each a sequence is computed with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.engine.native import Context, LoraAdapter
from runtime.errors import RequestError

Scales = tuple[float, ...]  # of every adapter, in their order


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
        self._applied: Scales = tuple(0.0 for _ in self.all)

    def scales_for(self, lora: Iterable[tuple[int, float]] | None) -> Scales:
        """Return the scales that a request means: those it names, and 0 for the others; RequestError for a wrong id."""
        if lora is None:
            return self.default_scales
        scales = [0.0] * len(self.all)
        for index, scale in lora:
            if not 0 <= index < len(scales):
                raise RequestError(f"there is no LoRA adapter {index}; this server has {len(scales)}", "lora")
            scales[index] = scale
        return tuple(scales)

    def apply(self, context: Context, scales: Scales) -> None:
        """Have the next batches computed so. The engine's thread only."""
        if scales != self._applied:
            context.set_adapters([adapter.loaded for adapter in self.all], scales)
            self._applied = scales

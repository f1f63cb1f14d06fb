"""DRY's stages, each made once and copied for every chain.

To make one, llama.cpp looks for each sequence breaker in every token of the vocabulary: some tenths of a second a
breaker, which must not stand in the way of everybody's next token. A copy costs nothing of that.
"""

import ctypes
import threading
from typing import Any

from runtime.engine.native.model import Model
from runtime.engine.values.sampling import SamplingParams

_NUM_KEPT = 4  # each holds twice 4 bytes for every token that it looks back

Settings = tuple[float, float, int, int, tuple[str, ...]]


class DryStages:
    """The stages that were asked for last, by their settings. Any thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._made: dict[Settings, Any] = {}  # the one used last is the last

    def has(self, params: SamplingParams) -> bool:
        """Whether `stage` has nothing to make."""
        with self._lock:
            return _settings(params, self._model) in self._made

    def prepare(self, params: SamplingParams) -> None:
        """Make the stage of these parameters, so that `stage` need not. Blocks; call from a thread of its own."""
        if not self.has(params):
            settings = _settings(params, self._model)
            self._keep(settings, self._new(settings))

    def stage(self, params: SamplingParams) -> Any:
        """Return a new stage, which is the caller's. Blocks where it isn't prepared."""
        settings = _settings(params, self._model)
        with self._lock:
            made = self._made.pop(settings, None)
            if made is not None:
                self._made[settings] = made
                return self._model.library.api.llama_sampler_clone(made)
        return self._new(settings)

    def close(self) -> None:
        with self._lock:
            for made in self._made.values():
                self._model.library.api.llama_sampler_free(made)
            self._made.clear()

    def _new(self, settings: Settings) -> Any:
        multiplier, base, allowed_length, last_n, texts = settings
        breakers = (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
        return self._model.library.api.llama_sampler_init_dry(
            self._model.vocab, multiplier, base, allowed_length, last_n, breakers, len(texts)
        )

    def _keep(self, settings: Settings, made: Any) -> None:
        with self._lock:
            unneeded = self._made.pop(settings, None)  # another thread was as fast
            self._made[settings] = made
            if unneeded is None and len(self._made) > _NUM_KEPT:
                unneeded = self._made.pop(next(iter(self._made)))
            if unneeded is not None:
                self._model.library.api.llama_sampler_free(unneeded)


def _settings(params: SamplingParams, model: Model) -> Settings:
    last_n = params.dry_penalty_last_n if params.dry_penalty_last_n >= 0 else model.facts.n_ctx_train
    return (
        *(params.dry_multiplier, params.dry_base, params.dry_allowed_length, last_n),
        tuple(dict.fromkeys(params.dry_sequence_breakers)),
    )

"""llama.cpp's samplers, chained for one sequence."""

from collections.abc import Iterable, Iterator
from typing import Any

from runtime.engine.native.dry import DryStages
from runtime.engine.native.model import Model
from runtime.engine.values.sampling import Sampler, SamplingParams

_MIROSTAT_M = 100  # how many tokens estimate the distribution, as in llama.cpp


class SamplerChain:
    """A chain of llama.cpp's samplers for one sequence, as llama.cpp's `common_sampler_init` puts it together."""

    def __init__(
        self,
        model: Model,
        params: SamplingParams,
        seed: int,
        *,
        banned: Iterable[int] = (),
        dry: DryStages | None = None,
    ) -> None:
        """`banned` tokens are never chosen (for `ignore_eos`); `dry` has the stages of DRY that are made already."""
        self._api = api = model.library.api
        self._dry = dry or DryStages(model)
        self.handle = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        for stage in self._stages(model, params, seed, banned):
            api.llama_sampler_chain_add(self.handle, stage)  # the chain owns it from here on

    def _stages(self, model: Model, params: SamplingParams, seed: int, banned: Iterable[int]) -> Iterator[Any]:
        api = self._api
        n_vocab = model.facts.n_vocab
        biases = [*model.biases(params.logit_bias), *((token, float("-inf")) for token in banned)]
        if biases:
            array = (api.llama_logit_bias * len(biases))(*(api.llama_logit_bias(*bias) for bias in biases))
            yield api.llama_sampler_init_logit_bias(n_vocab, len(biases), array)
        if params.mirostat:
            yield api.llama_sampler_init_temp(params.temperature)
            tau, eta = params.mirostat_tau, params.mirostat_eta
            if params.mirostat == 1:
                yield api.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, _MIROSTAT_M)
            else:
                yield api.llama_sampler_init_mirostat_v2(seed, tau, eta)
            return
        for sampler in params.order:
            if sampler is not Sampler.ADAPTIVE_P:
                yield self._stage(sampler, model, params, seed)
        if Sampler.ADAPTIVE_P in params.order:
            yield api.llama_sampler_init_adaptive_p(params.adaptive_target, params.adaptive_decay, seed)
        else:
            yield api.llama_sampler_init_dist(seed)

    def _stage(self, sampler: Sampler, model: Model, params: SamplingParams, seed: int) -> Any:
        api = self._api
        match sampler:
            case Sampler.PENALTIES:
                last_n = params.repeat_last_n if params.repeat_last_n >= 0 else model.facts.n_ctx_train
                repeat, frequency, presence = params.repeat_penalty, params.frequency_penalty, params.presence_penalty
                return api.llama_sampler_init_penalties(model.facts.n_vocab, last_n, repeat, frequency, presence)
            case Sampler.DRY:
                return self._dry.stage(params)
            case Sampler.TOP_N_SIGMA:
                return api.llama_sampler_init_top_n_sigma(params.top_n_sigma)
            case Sampler.TOP_K:
                return api.llama_sampler_init_top_k(params.top_k)
            case Sampler.TYPICAL_P:
                return api.llama_sampler_init_typical(params.typical_p, params.min_keep)
            case Sampler.TOP_P:
                return api.llama_sampler_init_top_p(params.top_p, params.min_keep)
            case Sampler.MIN_P:
                return api.llama_sampler_init_min_p(params.min_p, params.min_keep)
            case Sampler.XTC:
                probability, threshold = params.xtc_probability, params.xtc_threshold
                return api.llama_sampler_init_xtc(probability, threshold, params.min_keep, seed)
            case Sampler.TEMPERATURE:
                temperature, spread, exponent = params.temperature, params.dynatemp_range, params.dynatemp_exponent
                return api.llama_sampler_init_temp_ext(temperature, spread, exponent)
        raise AssertionError(f"{sampler} has no stage of its own")

    def accept(self, token: int) -> None:
        """Let the penalties see a token of the prompt, or one chosen from `Candidates`."""
        self._api.llama_sampler_accept(self.handle, token)

    def close(self) -> None:
        handle, self.handle = self.handle, None
        if handle:
            self._api.llama_sampler_free(handle)

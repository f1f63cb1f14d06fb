"""What OpenAI's chat completions and completions are both asked with.

Shapes are those of OpenAI's schema; `model` may be any name, since there is one model.

LlamaIndex's Llamafile client was written for a server that sent neither `[DONE]` nor a chunk without choices, and
breaks on both. It gives itself away by an `options` object, which no other client of this dialect sends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from runtime.engine.sampling import SamplingParams
from runtime.engine.sequence import GenerationRequest
from runtime.server.body import Body
from runtime.server.formats import read_response_format
from runtime.server.parameters import (
    MAX_PROMPTS,
    numbered_answer,
    read_lora,
    read_max_tokens,
    read_sampling,
    read_stop,
)
from runtime.server.service import Service


@dataclass(frozen=True, slots=True)
class CommonParams:
    """What both kinds of completion have in common, parsed."""

    model: str
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    ignore_eos: bool
    cache_prompt: bool
    n_keep: int
    lora: tuple[tuple[int, float], ...] | None
    num_choices: int  # for each prompt
    is_streamed: bool
    includes_usage: bool
    ends_with_done: bool
    num_top_logprobs: int | None

    @classmethod
    def of(cls, body: Body, service: Service, num_top_logprobs: int | None) -> "CommonParams":
        """`num_top_logprobs` is how many of the likeliest tokens to tell beside each; None tells nothing of any."""
        is_llamaindex = "options" in body
        given = body.over(body.nested("options"))
        sampling = read_sampling(given, service.defaults)
        sampling = replace(
            sampling,
            grammar=read_response_format(body) or sampling.grammar,
            n_probs=0 if num_top_logprobs is None else max(1, num_top_logprobs),
            post_sampling_probs=False,
        )
        return cls(
            model=given.text("model") or service.model_alias,
            sampling=sampling,
            max_tokens=read_max_tokens(
                given, "max_completion_tokens", "max_tokens", "n_predict", default=service.default_max_tokens
            ),
            stop=read_stop(given),
            ignore_eos=given.flag("ignore_eos", False),
            cache_prompt=given.flag("cache_prompt", True),
            n_keep=service.n_keep,
            lora=read_lora(given),
            num_choices=body.integer("n", 1, low=1, high=MAX_PROMPTS),
            is_streamed=given.flag("stream", False),
            includes_usage=given.nested("stream_options").flag("include_usage", False) and not is_llamaindex,
            ends_with_done=not is_llamaindex,
            num_top_logprobs=num_top_logprobs,
        )

    def request(self, prompt_tokens: tuple[int, ...]) -> GenerationRequest:
        return GenerationRequest(
            prompt_tokens=prompt_tokens,
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            stop=self.stop,
            ignore_eos=self.ignore_eos,
            cache_prompt=self.cache_prompt,
            n_keep=self.n_keep,
            lora=self.lora,
        )

    def choices(self, request: GenerationRequest) -> Iterator[GenerationRequest]:
        """Yield a request for each choice of one prompt's."""
        return (numbered_answer(request, number) for number in range(self.num_choices))

"""What OpenAI's chat completions and completions are both asked with.

Shapes are those of OpenAI's schema; `model` may be any name, since there is one model.

LlamaIndex's Llamafile client was written for a server that sent neither `[DONE]` nor a chunk without choices, and
breaks on both. It gives itself away by an `options` object, which no other client of this dialect sends.
"""

from dataclasses import dataclass, replace

from runtime.checked import JsonObject
from runtime.engine.values.request import GenerationParams, GenerationRequest
from runtime.server.asking.fields import OBJECT, Integer, Special
from runtime.server.asking.formats import read_response_format
from runtime.server.asking.prompts import MAX_PROMPTS
from runtime.server.asking.sampling import (
    LORA,
    MODEL,
    PROGRESS_FIELDS,
    SAMPLING_FIELDS,
    SLOT_FIELDS,
    STOP,
    STREAM,
    held_to,
    numbered_answer,
    read_generation,
    with_progress,
    with_slot,
)
from runtime.server.service import Service

_MAX_COMPLETION_TOKENS = Integer("max_completion_tokens", "Longest answer in tokens; negative is the server's limit.")
_MAX_TOKENS = Integer("max_tokens", "The older name of max_completion_tokens.")
_N_PREDICT = Integer("n_predict", "llama-server's name of max_completion_tokens.")
_N = Integer("n", "Answers to each prompt.", low=1, high=MAX_PROMPTS)
_STREAM_OPTIONS = Special(
    "stream_options",
    "include_usage: send the usage in a last chunk.",
    {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
)
_RESPONSE_FORMAT = Special(
    "response_format", "The form that the answer's text follows: text, json_object or json_schema.", OBJECT
)
COMMON_FIELDS = (
    *(MODEL, _MAX_COMPLETION_TOKENS, _MAX_TOKENS, _N_PREDICT, _N, STOP, LORA, *SAMPLING_FIELDS, _RESPONSE_FORMAT),
    *(STREAM, _STREAM_OPTIONS, *SLOT_FIELDS, *PROGRESS_FIELDS),
)


@dataclass(frozen=True, slots=True)
class CommonParams:
    """What both kinds of completion have in common, parsed."""

    model: str
    generation: GenerationParams
    num_choices: int  # for each prompt
    is_streamed: bool
    includes_usage: bool
    ends_with_done: bool
    num_top_logprobs: int | None

    @classmethod
    def of(cls, body: JsonObject, service: Service, num_top_logprobs: int | None) -> "CommonParams":
        """`num_top_logprobs` is how many of the likeliest tokens to report beside each; None reports nothing of any."""
        is_llamaindex = "options" in body
        given = body.over(body.nested("options"))
        names = (_MAX_COMPLETION_TOKENS.name, _MAX_TOKENS.name, _N_PREDICT.name)
        generation = read_generation(given, service.defaults, *names)
        generation = with_slot(held_to(generation, read_response_format(body), num_top_logprobs), given)
        is_streamed = STREAM.value_in(given, False)
        return cls(
            model=MODEL.value_in(given, "") or service.model_alias,
            generation=with_progress(generation, given, is_streamed=is_streamed) if is_streamed else generation,
            num_choices=_N.value_in(body, 1),
            is_streamed=is_streamed,
            includes_usage=given.nested(_STREAM_OPTIONS.name).flag("include_usage", False) and not is_llamaindex,
            ends_with_done=not is_llamaindex,
            num_top_logprobs=num_top_logprobs,
        )

    def choices(self, request: GenerationRequest) -> list[GenerationRequest]:
        """Return a request for each choice of one prompt's."""
        numbered = (numbered_answer(request.params, number) for number in range(self.num_choices))
        return [replace(request, params=params) for params in numbered]

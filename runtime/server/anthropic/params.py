"""How a message in Anthropic's dialect is to be generated."""

from dataclasses import dataclass, replace

from runtime.checked import JsonObject, wrong
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.request import GenerationParams
from runtime.errors import RequestError
from runtime.server.asking.fields import OBJECT, Field, Integer, Special
from runtime.server.asking.formats import json_schema_grammar
from runtime.server.asking.sampling import LORA, MODEL, SAMPLING_FIELDS, STOP, STREAM, held_to, read_generation
from runtime.server.refusals import NoThreads
from runtime.server.service import Service

_MAX_TOKENS = Integer("max_tokens", "Longest answer in tokens.")
_STOP_SEQUENCES = replace(STOP, name="stop_sequences")
_OUTPUT_CONFIG = Special(
    "output_config", "format.schema: a JSON schema that the answer follows; effort: how much the model thinks.", OBJECT
)
# Models know three levels, whatever the words.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_OUTPUT_FORMAT = Special("output_format", "The older name of output_config.format.", OBJECT)
ANSWER_FIELDS: tuple[Field, ...] = (
    *(MODEL, _MAX_TOKENS, _STOP_SEQUENCES, STREAM, _OUTPUT_CONFIG, _OUTPUT_FORMAT, LORA),
    *SAMPLING_FIELDS,
)


@dataclass(frozen=True, slots=True)
class AnthropicParams:
    """How a message is to be generated, parsed."""

    model: str
    generation: GenerationParams
    is_streamed: bool

    @classmethod
    def of(cls, body: JsonObject, service: Service) -> "AnthropicParams":
        body.refuse("container")
        body.refuse("mcp_servers", but=([],))
        if "thread" in body:
            raise NoThreads
        generation = held_to(
            read_generation(body, service.defaults, _MAX_TOKENS.name), _read_output_format(body), num_top_logprobs=None
        )
        return cls(
            model=MODEL.value_in(body, "") or service.model_alias,
            generation=replace(generation, stop=tuple(stop for stop in _STOP_SEQUENCES.value_in(body) if stop)),
            is_streamed=STREAM.value_in(body, False),
        )


def read_effort(body: JsonObject) -> dict[str, str]:
    """Return the template's variable for how much to think, if the request says it. Raises RequestError."""
    effort = body.nested(_OUTPUT_CONFIG.name).text("effort", None)
    if effort is None:
        return {}
    if effort not in _EFFORTS:
        raise wrong("output_config.effort", f"one of {', '.join(_EFFORTS)}")
    return {"reasoning_effort": _EFFORTS[effort]}


def _read_output_format(body: JsonObject) -> Grammar | None:
    """Return the grammar of the answer's format: a part of `output_config`, or the field that came before it."""
    config = body.nested(_OUTPUT_CONFIG.name)
    fields, name = (config, "format") if "format" in config else (body, _OUTPUT_FORMAT.name)
    if name not in fields:
        return None
    wanted = fields.nested(name)
    if wanted.raw("type") != "json_schema" or "schema" not in wanted:
        raise RequestError(f"'{name}' must have the type 'json_schema' and a 'schema'", name)
    return json_schema_grammar(wanted.raw("schema"), f"{name}.schema")

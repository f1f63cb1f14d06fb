"""How a message in Anthropic's dialect is to be generated."""

from dataclasses import dataclass, replace

from runtime.engine.policy.sequence import GenerationRequest
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import RequestError
from runtime.server.answering.errors import NoThreads
from runtime.server.asking.body import Body
from runtime.server.asking.fields import Field, Flag, Integer, Special, Text, Texts
from runtime.server.asking.formats import json_schema_grammar
from runtime.server.asking.sampling import LORA, SAMPLING_FIELDS, read_lora, read_max_tokens, read_sampling
from runtime.server.service import Service

_MODEL = Text("model", "Any name: there is one model.")
_MAX_TOKENS = Integer("max_tokens", "Longest answer in tokens.")
_STOP_SEQUENCES = Texts("stop_sequences", "Texts at which the answer ends; they are not part of it.")
_STREAM = Flag("stream", "Send the answer as it comes.")
_OUTPUT_CONFIG = Special(
    "output_config",
    "With a JSON schema in format.schema, which holds, and in effort how much to think.",
    {"type": "object"},
)
# Models know three levels, whatever the words.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_OUTPUT_FORMAT = Special("output_format", "An older name for output_config's format.", {"type": "object"})
ANSWER_FIELDS: tuple[Field, ...] = (
    *(_MODEL, _MAX_TOKENS, _STOP_SEQUENCES, _STREAM, _OUTPUT_CONFIG, _OUTPUT_FORMAT, LORA),
    *SAMPLING_FIELDS,
)


@dataclass(frozen=True, slots=True)
class AnthropicParams:
    """How a message is to be generated, parsed."""

    model: str
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    n_keep: int
    lora: tuple[tuple[int, float], ...] | None
    is_streamed: bool

    @classmethod
    def of(cls, body: Body, service: Service) -> "AnthropicParams":
        body.refuse("container")
        body.refuse("mcp_servers", but=([],))
        if "thread" in body:
            raise NoThreads
        sampling = read_sampling(body, service.defaults)
        return cls(
            model=_MODEL.read(body, "") or service.model_alias,
            sampling=replace(
                sampling, grammar=_read_output_format(body) or sampling.grammar, n_probs=0, post_sampling_probs=False
            ),
            max_tokens=read_max_tokens(body, _MAX_TOKENS.name, default=service.default_max_tokens),
            stop=tuple(stop for stop in _STOP_SEQUENCES.read(body) if stop),
            n_keep=service.n_keep,
            lora=read_lora(body),
            is_streamed=_STREAM.read(body, False),
        )

    def request(self) -> GenerationRequest:
        """Return the request, with a prompt that is still to come."""
        return GenerationRequest(
            prompt_tokens=(),
            sampling=self.sampling,
            max_tokens=self.max_tokens,
            stop=self.stop,
            n_keep=self.n_keep,
            lora=self.lora,
        )


def read_effort(body: Body) -> dict[str, str]:
    """Return the variable that tells the template how much to think, if the request says it. Raises RequestError."""
    effort = body.nested(_OUTPUT_CONFIG.name).text("effort")
    if effort is None:
        return {}
    if effort not in _EFFORTS:
        raise RequestError(f"'output_config.effort' must be one of {', '.join(_EFFORTS)}", "output_config.effort")
    return {"reasoning_effort": _EFFORTS[effort]}


def _read_output_format(body: Body) -> Grammar | None:
    """Return the grammar of the answer's format: a part of `output_config`, or the field that came before it."""
    config = body.nested(_OUTPUT_CONFIG.name)
    fields, name = (config, "format") if "format" in config else (body, _OUTPUT_FORMAT.name)
    if name not in fields:
        return None
    wanted = fields.nested(name)
    if wanted.raw("type") != "json_schema" or "schema" not in wanted:
        raise RequestError(f"'{name}' must have the type 'json_schema' and a 'schema'", name)
    return json_schema_grammar(wanted.raw("schema"), f"{name}.schema")

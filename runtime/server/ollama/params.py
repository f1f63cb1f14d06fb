"""How an answer in Ollama's dialect is to be generated: the fields that `/api/generate` and `/api/chat` share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime.checked import JsonObject, wrong
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.request import GenerationParams
from runtime.server.asking.fields import Field, Flag, Integer, Special
from runtime.server.asking.formats import json_schema_grammar
from runtime.server.asking.sampling import LORA, MODEL, SAMPLING_FIELDS, STOP, held_to, read_generation
from runtime.server.service import Service

_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)?(\d+(\.\d*)?(ns|us|µs|μs|ms|s|m|h))*")
_SOME_TIME = re.compile("[1-9]")

STREAM = Flag("stream", "Send the answer piece by piece, which is the default.")
KEEP_ALIVE = Special(
    "keep_alive", "Accepted without effect: the model stays in memory.", {"type": ["string", "number"]}
)
_NUM_PREDICT = Integer("num_predict", "Longest answer in tokens; negative is the server's own limit.")
_NUM_KEEP = Integer("num_keep", "Tokens of the prompt to keep when the context shifts.", low=-1, high=2**31 - 1)
_OPTION_FIELDS: tuple[Field, ...] = (_NUM_PREDICT, _NUM_KEEP, STOP, LORA, *SAMPLING_FIELDS)
OPTIONS = Special(
    "options",
    "Settings of the answer. Those about loading a model (num_ctx, num_gpu, …) have no effect: the model is loaded.",
    {"type": "object", "properties": {each.name: each.schema() for each in _OPTION_FIELDS}},
)
_THINK = Special(
    "think",
    "Whether, or how much, a thinking model thinks: true, false, low, medium, high. Default: as its template does.",
    {"type": ["boolean", "string"]},
)
_LEVELS = ("low", "medium", "high")
_FORMAT = Special("format", "json, or a JSON schema that the answer holds to.", {"type": ["string", "object"]})
_LOGPROBS = Flag("logprobs", "Report the log-probability of each token.")
_TOP_LOGPROBS = Integer("top_logprobs", "Report this many of the likeliest tokens beside each token.", low=0, high=20)
ANSWER_FIELDS: tuple[Field, ...] = (*(MODEL, STREAM, OPTIONS, _THINK, _FORMAT, KEEP_ALIVE, _LOGPROBS, _TOP_LOGPROBS),)


@dataclass(frozen=True, slots=True)
class OllamaParams:
    """The shared fields, parsed."""

    model: str
    generation: GenerationParams
    is_streamed: bool
    is_unloading: bool
    num_top_logprobs: int | None
    asks_to_think: bool
    thinking: bool | None
    variables: Mapping[str, Any]
    parses_special: bool

    @classmethod
    def of(cls, body: JsonObject, service: Service) -> "OllamaParams":
        thinking, effort = _read_think(body.raw(_THINK.name))
        options = body.nested(OPTIONS.name)
        num_top = _TOP_LOGPROBS.value_in(body, 0)
        num_top_logprobs = num_top if _LOGPROBS.value_in(body, False) else None
        generation = held_to(
            read_generation(options, service.defaults, _NUM_PREDICT.name),
            _read_format(body.raw(_FORMAT.name)),
            num_top_logprobs,
        )
        return cls(
            model=MODEL.value_in(body, "") or service.model_alias,
            generation=replace(generation, n_keep=_NUM_KEEP.value_in(options, service.defaults.n_keep)),
            is_streamed=STREAM.value_in(body, True),
            is_unloading=_read_is_unloading(body.raw(KEEP_ALIVE.name)),
            num_top_logprobs=num_top_logprobs,
            asks_to_think=thinking is True,
            thinking=service.chat.thinking if thinking is None else thinking,
            variables={**service.chat.variables, **({"reasoning_effort": effort} if effort else {})},
            parses_special=service.chat.parses_special,
        )


def _read_think(value: object) -> tuple[bool | None, str]:
    """Return whether the model shall think, and how much, empty where that isn't said."""
    if value is None or isinstance(value, bool):
        return value, ""
    if isinstance(value, str) and value in _LEVELS:
        return True, value
    raise wrong(_THINK.name, f"true, false or one of {', '.join(_LEVELS)}")


def _read_format(value: object) -> Grammar | None:
    if value is None or value == "":
        return None
    if value == "json":
        return json_schema_grammar({}, _FORMAT.name)
    if not isinstance(value, dict):
        raise wrong(_FORMAT.name, "'json' or a JSON schema")
    return json_schema_grammar(value, _FORMAT.name)


def _read_is_unloading(keep_alive: object) -> bool:
    """Return whether a request wants the model out of memory at once, which here only the answer pretends."""
    if keep_alive is None:
        return False
    if isinstance(keep_alive, str) and _DURATION.fullmatch(keep_alive):
        return not _SOME_TIME.search(keep_alive)
    if isinstance(keep_alive, (int, float)) and not isinstance(keep_alive, bool):
        return keep_alive == 0
    raise wrong(KEEP_ALIVE.name, "a duration such as '5m', or a number of seconds")

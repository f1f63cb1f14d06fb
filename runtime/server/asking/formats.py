"""The fields of a request that hold its answer to a form: llama.cpp's `grammar` and `json_schema`, OpenAI's
`response_format`. Only which grammar is meant is read here; whether it can be used, the engine says.
"""

import json
from collections.abc import Mapping

from runtime.checked import JsonObject, wrong
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.errors import RequestError

# How llama.cpp distinguishes llguidance's language from its own, in builds that have both.
_LARK_BEGINS = "%llguidance"


def read_grammar(body: JsonObject) -> Grammar | None:
    """Return llama.cpp's grammar; where there is a schema as well, the grammar counts, as in llama-server."""
    body.refuse("grammar_lazy", but=(False,))
    source = body.text("grammar", None)
    if source:
        return Grammar(GrammarKind.LARK if source.startswith(_LARK_BEGINS) else GrammarKind.GBNF, source)
    return json_schema_grammar(body.raw("json_schema"), "json_schema")


def read_response_format(body: JsonObject) -> Grammar | None:
    """Return the grammar of OpenAI's `response_format`. `strict` changes nothing: a schema always holds."""
    wanted, param = body.nested("response_format"), "response_format"
    if wanted.raw("type") == "json_object":  # with a schema in llama-server's dialect
        return json_schema_grammar(wanted.raw("schema") or {}, f"{param}.schema")
    return read_format(wanted, param, inner="json_schema")


def read_format(wanted: JsonObject, param: str, *, inner: str = "") -> Grammar | None:
    """Return the grammar of a form that OpenAI's APIs ask for; `inner` is the field that holds the schema's own."""
    match wanted.raw("type"):
        case "text" | None:
            return None
        case "json_object":
            return json_schema_grammar({}, param)
        case "json_schema":
            within, where = (wanted.nested(inner), f"{param}.{inner}") if inner else (wanted, param)
            schema = within.raw("schema")
            return json_schema_grammar({} if schema is None else schema, f"{where}.schema")
    raise wrong(f"{param}.type", "'text', 'json_object' or 'json_schema'")


def json_schema_grammar(schema: object, param: str) -> Grammar | None:
    """Return the grammar of a schema, None for none; `param` is the field that it stands in."""
    if schema is None:
        return None
    if not isinstance(schema, Mapping):
        raise wrong(param, "an object")
    try:
        return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema))
    except RecursionError:
        raise RequestError(f"'{param}' is nested too deeply", param) from None

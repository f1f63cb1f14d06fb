"""The description is that of what is really served and read."""

import re

import pytest

from runtime.server.asking.fields import Integer, Number
from runtime.server.llamacpp.completion import ANSWER_FIELDS
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

APP = make_app(ScriptedEngine())
DESCRIPTION = ask(APP, "GET", "/openapi.json").json()
COMPLETION = DESCRIPTION["paths"]["/completion"]["post"]["requestBody"]["content"]["application/json"]["schema"]


def test_every_route_is_described_and_nothing_else() -> None:
    served = {re.sub(r":\w+}", "}", route.path) for route in APP.routes}
    assert set(DESCRIPTION["paths"]) | {"/openapi.json"} == served
    assert set(DESCRIPTION["paths"]["/props"]) == {"get", "post"}


def test_a_path_with_a_variable_names_it() -> None:
    described = DESCRIPTION["paths"]["/slots/{id}"]["post"]
    assert [(each["name"], each["in"]) for each in described["parameters"]] == [("id", "path")]
    assert "/v1/models/{id}" in DESCRIPTION["paths"]


def test_a_completions_fields_are_those_that_are_read() -> None:
    assert COMPLETION["required"] == ["prompt"]
    assert {"prompt", "n_predict", "temperature", "id_slot", "seed", "stop"} <= set(COMPLETION["properties"])
    assert all(described["description"] for described in COMPLETION["properties"].values())


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/generate", {"prompt", "raw", "format", "options", "stream"}),
        ("/api/chat", {"messages", "format", "options", "stream"}),
        ("/api/embed", {"input", "truncate", "dimensions"}),
        ("/v1/messages", {"messages", "system", "max_tokens", "stop_sequences", "temperature"}),
    ],
)
def test_the_other_dialects_are_described_too(path: str, fields: set[str]) -> None:
    described = DESCRIPTION["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert fields <= set(described)
    if "options" in fields:
        assert {"num_predict", "temperature", "stop"} <= set(described["options"]["properties"])


@pytest.mark.parametrize(
    "declared", [f for f in ANSWER_FIELDS if isinstance(f, (Integer, Number))], ids=lambda f: f.name
)
def test_a_number_outside_what_is_described_is_refused_by_name(declared: Integer | Number) -> None:
    described = COMPLETION["properties"][declared.name]
    step = 1 if described["type"] == "integer" else 0.005
    outside = [
        described[bound] + sign * step for bound, sign in (("minimum", -1), ("maximum", 1)) if bound in described
    ]
    for value in [*outside, "5", [5]]:
        response = ask(APP, "POST", "/completion", json={"prompt": "Hi", declared.name: value})
        assert (response.status_code, response.json()["error"]["param"]) == (400, declared.name)
    for bound in ("minimum", "maximum"):
        if bound in described and declared.name != "n_cmpl" and declared.name != "id_slot":
            response = ask(APP, "POST", "/completion", json={"prompt": "Hi", declared.name: described[bound]})
            assert response.status_code == 200

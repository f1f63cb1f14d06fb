from datetime import datetime

from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app


def test_the_one_model_is_listed_for_openais_and_for_anthropics_clients() -> None:
    for path in ("/v1/models", "/models"):
        listed = ask(make_app(ScriptedEngine()), "GET", path).json()
        assert (listed["object"], listed["has_more"]) == ("list", False)
        assert (listed["first_id"], listed["last_id"]) == ("scripted", "scripted")
        (model,) = listed["data"]
        assert (model["id"], model["object"], model["owned_by"]) == ("scripted", "model", "holdall")
        assert (model["type"], model["display_name"], model["max_input_tokens"]) == ("model", "scripted", 4096)
        assert datetime.fromisoformat(model["created_at"].replace("Z", "+00:00")).timestamp() == model["created"]


def test_a_model_is_found_by_its_name_with_and_without_escapes() -> None:
    app = make_app(ScriptedEngine(), model_alias="org/name")
    for path in ("/v1/models/org/name", "/v1/models/org%2Fname"):
        assert ask(app, "GET", path).json()["id"] == "org/name"


def test_a_model_of_several_names_is_found_by_each_and_tells_them() -> None:
    app = make_app(ScriptedEngine(), names=("code", "fim"), tags=("small", "chat"))
    found = [ask(app, "GET", f"/v1/models/{name}").json() for name in ("code", "fim")]
    assert {model["id"] for model in found} == {"code"}
    assert (found[0]["aliases"], found[0]["tags"]) == (["code", "fim"], ["small", "chat"])
    assert ask(app, "POST", "/api/show", json={"model": "fim:latest"}).status_code == 200


def test_another_model_is_not_here() -> None:
    missing = ask(make_app(ScriptedEngine()), "GET", "/v1/models/other")
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "model")

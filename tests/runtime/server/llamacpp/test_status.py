import pytest

from runtime.server.service import EndpointFlags
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app


def test_props_tell_what_a_client_needs() -> None:
    props = ask(make_app(ScriptedEngine()), "GET", "/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 4096
    assert props["default_generation_settings"]["params"]["temperature"] == 0.8
    assert (props["total_slots"], props["model_alias"], props["build_info"]) == (4, "scripted", "test")
    assert (props["bos_token"], props["eos_token"]) == ("<s>", "</s>")
    assert (props["endpoint_slots"], props["endpoint_metrics"], props["endpoint_props"]) == (True, False, False)
    assert "<|im_start|>" in props["chat_template"]


def test_properties_can_not_be_changed() -> None:
    app = make_app(ScriptedEngine())
    response = ask(app, "POST", "/props", json={})
    assert (response.status_code, response.json()["error"]["type"]) == (501, "not_supported_error")


@pytest.mark.parametrize(("body", "status"), [({}, 200), ({"n_ctx": 5}, 400)])
def test_the_flag_only_accepts_the_request(body: dict[str, object], status: int) -> None:
    response = ask(make_app(ScriptedEngine(), flags=EndpointFlags(has_props=True)), "POST", "/props", json=body)
    assert response.status_code == status
    if status == 200:
        assert response.json() == {"success": True}
    else:
        assert response.json()["error"]["param"] == "n_ctx"

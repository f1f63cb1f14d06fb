from runtime.engine.values.meter import Meter
from runtime.server.llamacpp.metrics import exposition
from runtime.server.service import EndpointFlags
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app


def parsed(text: str) -> dict[str, tuple[str, float]]:
    """Read a page strictly: each metric has its HELP, its TYPE and its value, in this order."""
    found = {}
    lines = iter(text.splitlines())
    assert text.endswith("\n")
    for line in lines:
        mark, word, name, _help = line.split(" ", 3)
        assert (mark, word) == ("#", "HELP")
        kind = next(lines).removeprefix(f"# TYPE {name} ")
        label, value = next(lines).split(" ")
        assert (label, kind in ("counter", "gauge")) == (name, True)
        found[name.removeprefix("llamacpp:")] = (kind, float(value))
    return found


def test_counters_run_from_the_start_and_rates_since_the_last_look() -> None:
    now = Meter(
        num_prompt_tokens=30,
        num_cached_tokens=7,
        num_generated_tokens=23,
        num_generating_steps=20,
        prompt_seconds=1.5,
        generation_seconds=3.0,
        num_steps=8,
        num_sequences_in_steps=12,
        max_sequence_length=40,
        num_drafts=4,
        num_drafted_tokens=20,
        num_accepted_tokens=11,
    )
    last = Meter(num_prompt_tokens=10, num_generating_steps=10, prompt_seconds=0.5, generation_seconds=1.0)
    metrics = parsed(exposition(now, last, num_processing=2, num_deferred=3))
    assert metrics["prompt_tokens_total"] == ("counter", 30)
    assert metrics["prompt_tokens_cached_total"] == ("counter", 7)
    assert metrics["prompt_seconds_total"] == ("counter", 1.5)
    assert metrics["tokens_predicted_total"] == ("counter", 23)
    assert metrics["tokens_predicted_seconds_total"] == ("counter", 3)
    assert metrics["n_decode_total"] == ("counter", 8)
    assert metrics["n_tokens_max"] == ("counter", 40)
    assert metrics["spec_decode_num_drafts_total"] == ("counter", 4)
    assert metrics["spec_decode_num_draft_tokens_total"] == ("counter", 20)
    assert metrics["spec_decode_num_accepted_tokens_total"] == ("counter", 11)
    assert metrics["prompt_tokens_seconds"] == ("gauge", 20)
    assert metrics["predicted_tokens_seconds"] == ("gauge", 5)
    assert metrics["requests_processing"] == ("gauge", 2)
    assert metrics["requests_deferred"] == ("gauge", 3)
    assert metrics["n_busy_slots_per_decode"] == ("gauge", 1.5)


def test_large_counts_are_written_out() -> None:
    assert (
        parsed(exposition(Meter(num_prompt_tokens=123456789012), Meter(), 0, 0))["prompt_tokens_total"][1]
        == 123456789012
    )
    assert "e+" not in exposition(Meter(num_prompt_tokens=123456789012), Meter(), 0, 0)


def test_the_page_is_served_where_it_may() -> None:
    engine = ScriptedEngine()
    app = make_app(engine, flags=EndpointFlags(has_metrics=True))
    ask(app, "POST", "/completion", json={"prompt": "Hi"})
    response = ask(app, "GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.headers["process-start-time-unix"].isdecimal()
    assert parsed(response.text)["n_decode_total"] == ("counter", 1)
    refused = ask(make_app(engine), "GET", "/metrics")
    assert (refused.status_code, refused.json()["error"]["type"]) == (501, "not_supported_error")

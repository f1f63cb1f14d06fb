"""OpenAI's text completions, with a scripted engine where the shape counts and a small model where the numbers do."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.engine.values.facts import FillTokens
from tests.fakes import ScriptedEngine
from tests.fuzzing import a_target
from tests.serving import ask, events_of, make_app

PATH = "/v1/completions"


def complete(engine: ScriptedEngine, **body: Any) -> httpx.Response:
    return ask(make_app(engine), "POST", PATH, json={"prompt": "Hi", **body})


def choices_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The choices, a stream's put together, by their indexes."""
    if response.headers["content-type"].startswith("application/json"):
        choices: list[dict[str, Any]] = response.json()["choices"]
        return choices
    whole: dict[int, dict[str, Any]] = {}
    for event in events_of(response.text)[:-1]:
        for part in json.loads(event)["choices"]:
            choice = whole.setdefault(part["index"], {"text": "", "logprobs": None})
            choice["text"] += part["text"]
            choice["finish_reason"] = part["finish_reason"]
            if part["logprobs"]:
                told = choice["logprobs"] or {name: [] for name in part["logprobs"]}
                choice["logprobs"] = {name: [*told[name], *values] for name, values in part["logprobs"].items()}
    return [{"index": index, **whole[index]} for index in sorted(whole)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("Hi", ["Hi"]),
        (["Hi", "Ho"], ["Hi", "Ho"]),
        ([72, 105], ["Hi"]),
        ([[72, 105], [72]], ["Hi", "H"]),
        ([[72, 105]], ["Hi"]),
    ],
)
def test_each_prompt_has_its_choices_in_their_order(prompt: object, texts: list[str], stream: bool) -> None:
    choices = choices_of(complete(ScriptedEngine(), prompt=prompt, n=2, echo=True, stream=stream))
    assert [choice["index"] for choice in choices] == list(range(2 * len(texts)))
    assert [choice["text"] for choice in choices] == [f"{text}Hello world" for text in texts for _ in range(2)]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}


@pytest.mark.parametrize("stream", [False, True])
def test_usage_counts_each_prompt_once_and_every_answer(stream: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    response = complete(ScriptedEngine(), prompt=["Hi", "Hello"], n=3, **options)
    last = json.loads(events_of(response.text)[-2]) if stream else response.json()
    usage = last["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 12, 19)


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_has_logprobs_for_all_but_its_first_token(stream: bool) -> None:
    (choice,) = choices_of(complete(ScriptedEngine(), echo=True, logprobs=2, stream=stream))
    told = choice["logprobs"]
    assert choice["text"] == "HiHello world"
    assert told["tokens"] == ["H", "i", "Hello", " world"]
    assert told["token_logprobs"] == [None, *[-math.log(2)] * 3]
    assert told["text_offset"] == [0, 1, 2, 7]
    assert told["top_logprobs"][0] is None
    assert [len(top) for top in told["top_logprobs"][1:]] == [2, 2, 2]


def test_a_prompt_that_is_not_echoed_is_not_scored() -> None:
    engine = ScriptedEngine()
    complete(engine, logprobs=2)
    complete(engine, echo=True)
    assert not any(request.params.wants_prompt_probs for request in engine.requests)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_can_be_echoed_with_nothing_after_it(stream: bool) -> None:
    (choice,) = choices_of(complete(ScriptedEngine(), echo=True, max_tokens=0, logprobs=0, stream=stream))
    assert choice["text"] == "Hi"
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"]["top_logprobs"] == [None, {}]


def test_a_suffix_is_for_models_that_fill_gaps() -> None:
    engine = ScriptedEngine()
    response = complete(engine, suffix="there")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "suffix")
    engine.vocabulary.fill_tokens = FillTokens(prefix=1, suffix=2, middle=3, repository=None, file=None)
    assert complete(engine, suffix="to").status_code == 200
    assert engine.requests[-1].prompt.tokens == (1, *b"Hi", 2, *b"to", 3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 0}, "best_of"),
        ({"prompt": ["a", "b"], "n": 200}, "n"),
        ({"prompt": [["a", "b"], "c"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": [999]}, "prompt"),
        ({"prompt": [999], "echo": True}, None),
        ({"prompt": [72], "suffix": "x"}, "prompt"),
        ({"echo": True, "suffix": "x"}, "echo"),
        ({"echo": "yes"}, "echo"),
    ],
)
def test_what_is_asked_wrongly_is_refused_by_name(fields: dict[str, Any], param: str | None) -> None:
    response = complete(ScriptedEngine(), **fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


# -- with a model -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(stories260k: Path) -> Iterator[httpx.Client]:
    with a_target(stories260k) as target:
        yield target.client


def ask_model(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json={"prompt": "Once upon a time", "max_tokens": 12, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def mean_logprob(choice: dict[str, Any]) -> float:
    logprobs: list[float] = choice["logprobs"]["token_logprobs"]
    return sum(logprobs) / len(logprobs)


def test_the_best_of_several_are_the_likeliest(client: httpx.Client) -> None:
    sampled = {"seed": 5, "temperature": 1.5, "logprobs": 1}
    prompts = ["Once upon a time", "There was"]
    tries = ask_model(client, prompt=prompts, n=4, **sampled)["choices"]
    best = ask_model(client, prompt=prompts, n=2, best_of=4, **sampled)
    expected = [sorted(tries[first : first + 4], key=mean_logprob, reverse=True)[:2] for first in (0, 4)]
    assert [each["text"] for each in best["choices"]] == [each["text"] for tries in expected for each in tries]
    assert best["usage"]["completion_tokens"] == 8 * 12


def test_an_echoed_answer_is_as_likely_as_it_was_when_it_was_given(client: httpx.Client) -> None:
    given = ask_model(client, logprobs=1, temperature=0)["choices"][0]
    text = "Once upon a time" + given["text"]
    (choice,) = ask_model(client, prompt=text, echo=True, logprobs=1, max_tokens=0)["choices"]
    assert choice["text"] == text
    again = choice["logprobs"]["token_logprobs"][-12:]
    assert again == pytest.approx(given["logprobs"]["token_logprobs"], abs=1e-2)
    assert choice["logprobs"]["tokens"][-12:] == given["logprobs"]["tokens"]

import pytest

from runtime.checked import JsonObject, elements
from runtime.errors import RequestError


def test_null_is_absent_and_whole_floats_are_integers() -> None:
    body = JsonObject({"a": None, "b": 40.0})
    assert body.integer("a", 7) == 7
    assert body.integer("b", 7) == 40
    assert "a" not in body


@pytest.mark.parametrize("value", [True, "1", 1.5, [], 10**400])
def test_a_wrong_integer_is_refused_by_name(value: object) -> None:
    with pytest.raises(RequestError) as refusal:
        JsonObject({"top_k": value}).integer("top_k", 0, high=100)
    assert refusal.value.param == "top_k"


@pytest.mark.parametrize("value", [True, "1", [], 10**400])
def test_a_wrong_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(RequestError, match="'temperature' must be a number"):
        JsonObject({"temperature": value}).number("temperature", 0.0)


def test_refusing_takes_harmless_values_by_type_too() -> None:
    JsonObject({"tools": [], "n": 1, "logprobs": False}).refuse("tools", but=([],))
    JsonObject({"n": None}).refuse("n")
    with pytest.raises(RequestError, match="'logprobs' is not supported"):
        JsonObject({"logprobs": 0}).refuse("logprobs", but=(False,))


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"role": "wizard"}, "role", "'messages[1].role' must be one of user, tool"),
        ({"role": ["user"]}, "role", "'messages[1].role' must be one of user, tool"),
        ({}, "role", "'messages[1].role' must be one of user, tool"),
        ({"role": "user", "content": 5}, "content", "'messages[1].content' must be a text"),
        ({"role": "user", "content": ""}, "content", "'messages[1].content' must be a text"),
        ({"role": "user"}, "content", "'messages[1].content' must be a text"),
    ],
)
def test_an_error_deep_inside_names_its_path(fields: dict[str, object], name: str, words: str) -> None:
    def read(value: object) -> None:
        for each, path in elements(value, "messages", "a list"):
            message = JsonObject.of(each, path)
            message.choice("role", {"user": 1, "tool": 2})
            message.required_text("content", is_filled=True)

    with pytest.raises(RequestError) as refusal:
        read([{"role": "user", "content": "x"}, fields])
    assert (str(refusal.value), refusal.value.param) == (words, f"messages[1].{name}")


@pytest.mark.parametrize("value", [None, {}, "x", []])
def test_a_list_that_is_none_or_holds_nothing_is_refused(value: object) -> None:
    with pytest.raises(RequestError, match="'messages' must be a list of at least one"):
        elements(value, "messages", "a list of at least one", is_filled=True)


def test_what_is_no_object_is_refused_by_its_path_or_as_the_body() -> None:
    with pytest.raises(RequestError, match=r"'a\[0\]' must be an object with 'x'"):
        JsonObject.of([], "a[0]", "an object with 'x'")
    with pytest.raises(RequestError, match="the body must be a JSON object"):
        JsonObject.of([], "")

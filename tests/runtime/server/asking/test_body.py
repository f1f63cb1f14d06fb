import pytest

from runtime.errors import RequestError
from runtime.server.asking.body import Body, parse_object


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"x": "\xff"}', "valid UTF-8"),
        (b'{"x": "\\ud83c"}', "half surrogates"),
        (b'{"x": NaN}', "NaN is not a JSON number"),
        (b'{"x": 1e999}', "too large"),
        (b'{"x": ' + b"9" * 5000 + b"}", "must be JSON"),
        (b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested more than 128 deep"),
        (b'{"x": ' + b"[" * 128 + b"]" * 128 + b"}", "nested more than 128 deep"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_json_object_is_refused_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refusal:
        parse_object(data)
    assert "\n" not in str(refusal.value)


def test_what_is_broad_is_not_deep() -> None:
    deep = b'{"x": ' + b"[" * 127 + b"]" * 127 + b"}"
    broad = b'{"x": [' + b"[{}]," * 5000 + b"1]}"
    assert len(parse_object(deep)["x"]) == 1
    assert len(parse_object(broad)["x"]) == 5001


def test_whole_characters_may_be_written_as_surrogate_pairs() -> None:
    assert parse_object(rb'{"x": "\ud83c\udf88"}') == {"x": "🎈"}


def test_null_is_absent_and_whole_floats_are_integers() -> None:
    body = Body({"a": None, "b": 40.0})
    assert body.integer("a", 7) == 7
    assert body.integer("b", 7) == 40
    assert "a" not in body


@pytest.mark.parametrize("value", [True, "1", 1.5, [], 10**400])
def test_a_wrong_integer_is_refused_by_name(value: object) -> None:
    with pytest.raises(RequestError) as refusal:
        Body({"top_k": value}).integer("top_k", 0, high=100)
    assert refusal.value.param == "top_k"


@pytest.mark.parametrize("value", [True, "1", [], 10**400])
def test_a_wrong_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(RequestError, match="'temperature' must be a number"):
        Body({"temperature": value}).number("temperature", 0.0)


def test_refusing_takes_harmless_values_by_type_too() -> None:
    Body({"tools": [], "n": 1, "logprobs": False}).refuse("tools", but=([],))
    Body({"n": None}).refuse("n")
    with pytest.raises(RequestError, match="'logprobs' is not supported"):
        Body({"logprobs": 0}).refuse("logprobs", but=(False,))

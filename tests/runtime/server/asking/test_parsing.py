import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.server.asking.parsing import BODY_LIMITS, Limits, check_size, parse_object
from runtime.server.refusals import BodyTooLarge


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
        (b'{"x": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "nested more than 128 deep"),
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


TEXTS, VALUES = "names, texts, lists and objects", "values"


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        ("[],", TEXTS),
        ("{},", TEXTS),
        ('"",', TEXTS),
        ('{"a":1},', TEXTS),
        ("[7,7],", TEXTS),
        ('"\\\\",', TEXTS),
        ("7,", VALUES),
        ("null,", VALUES),
    ],
)
def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(piece: str, words: str) -> None:
    data = b'{"x": [' + piece.encode() * (BODY_LIMITS.max_values + 1) + b"this is no JSON"
    with pytest.raises(BodyTooLarge, match=words):
        parse_object(data)


@pytest.mark.parametrize("opening", ["{", "[", '{"a":['])
def test_depth_counts_too(opening: str) -> None:
    with pytest.raises(BodyTooLarge, match=TEXTS):
        parse_object(opening.encode() * 200_001)


def test_very_many_names_are_too_many() -> None:
    names = {f"name{number}": number for number in range(BODY_LIMITS.max_texts)}
    with pytest.raises(BodyTooLarge, match=TEXTS):
        parse_object(json.dumps(names).encode())


@pytest.mark.parametrize("text", [',,,,"\\[{', "[],[],", "\\,,,,", '"', "é,🎈,,,\\n"])
def test_what_stands_in_a_text_is_not_counted(text: str) -> None:
    value = {"x": text * 300_000, "y": [1, "b"]}
    assert parse_object(json.dumps(value).encode()) == value
    assert parse_object(json.dumps(value, ensure_ascii=False).encode()) == value


_JSON = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('\\",[]{}:é')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('\\",[{')), inner),
)


@given(value=_JSON, is_ascii=st.booleans(), size=st.integers(1, 7))
def test_counts_are_those_of_the_parsed_document_wherever_it_is_cut(value: object, is_ascii: bool, size: int) -> None:
    data = json.dumps(value, ensure_ascii=is_ascii).encode()
    num_texts, num_commas = count(value)
    check_size(data, Limits(num_texts, num_commas), num_at_once=size)
    for limits in (Limits(num_texts - 1, num_commas), Limits(num_texts, num_commas - 1)):
        if min(limits.max_texts, limits.max_values) >= 0:
            with pytest.raises(BodyTooLarge):
                check_size(data, limits, num_at_once=size)


def count(value: object) -> tuple[int, int]:
    """Return the texts, names, lists and objects of a value, and its commas."""
    if isinstance(value, dict):
        inner = [count(each) for each in value.values()]
        return 1 + len(value) + sum(texts for texts, _ in inner), max(len(value) - 1, 0) + sum(c for _, c in inner)
    if isinstance(value, list):
        inner = [count(each) for each in value]
        return 1 + sum(texts for texts, _ in inner), max(len(value) - 1, 0) + sum(commas for _, commas in inner)
    return int(isinstance(value, str)), 0


@pytest.mark.parametrize("data", [b'{"x": "\\ud83c"}', b'{"x": NaN}', b'{"x": 1e999}', b'{"x": ["a" "b"]}', b"[]"])
def test_a_long_document_is_parsed_in_python_with_the_same_answer(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    good = b'{"x": ["\\ud83c\\udf88", 1.5, -2, true, null, {"y": {}}, []], "z": "\\u00e9"}'
    quick = parse_object(good)
    with pytest.raises(RequestError) as refusal:
        parse_object(data)
    monkeypatch.setattr("runtime.server.asking.parsing.BODY_LIMITS", Limits(0, 0))
    roomy = Limits(1000, 1000)
    assert parse_object(good, roomy) == quick
    with pytest.raises(RequestError) as same_refusal:
        parse_object(data, roomy)
    assert str(same_refusal.value) == str(refusal.value)

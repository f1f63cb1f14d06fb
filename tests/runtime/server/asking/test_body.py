import pytest

from runtime.errors import RequestError
from runtime.server.asking.body import parse_object


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

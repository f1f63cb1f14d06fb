"""What a terminal is shown of texts that others wrote."""

import json

import pytest

from runtime.printable import printable

HOSTILE = "\x1b]0;pwned\x07\x1b[2J"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Ünïcode 你好 👩‍🚀", "plain, Ünïcode 你好 👩‍🚀"),
        (HOSTILE, "\\u001b]0;pwned\\u0007\\u001b[2J"),
        ("a\rb\nc\td\x00e\x7f", "a\\u000db\\u000ac\\u0009d\\u0000e\\u007f"),
        ("\x9b2J\x85", "\\u009b2J\\u0085"),
        ("abc\u202e.fdp\u2066\u2028", "abc\\u202e.fdp\\u2066\\u2028"),
        ("\ud83d", "\\ud83d"),
    ],
    ids=["nothing to hide", "escapes", "controls", "controls of the second set", "directions", "half a character"],
)
def test_controls_are_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_lines_are_kept_where_there_are_several() -> None:
    assert printable("a\nb\x1b", keeps="\n") == "a\nb\\u001b"


def test_json_says_what_it_said() -> None:
    value = {"name": HOSTILE + "\x9b\u202e\x7f"}
    shown = printable(json.dumps(value, ensure_ascii=False, indent=1), keeps="\n")
    assert json.loads(shown) == value
    assert "\x9b" not in shown

import json

import pytest

from runtime.server.answering.streaming import TextFrame, frame

AWKWARD = 'line\nquote" back\\slash \u2028\u2029\u0085\x0b\x1f é 🎈 \ud83c'


def test_a_frame_is_one_ascii_line() -> None:
    written = frame({"content": AWKWARD})
    assert written.isascii()
    assert written.startswith(b"data: {")
    assert written.endswith(b"}\n\n")
    assert len(written.decode().splitlines()) == 2  # the event and the blank line, by Unicode's idea of lines too
    assert json.loads(written[6:]) == {"content": AWKWARD}


def test_infinity_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        frame({"x": float("inf")})


@pytest.mark.parametrize("text", ["", "plain", AWKWARD, TextFrame.GAP])
def test_a_text_frame_is_what_frame_writes(text: str) -> None:
    event = {"id": "x", "choices": [{"delta": {"content": TextFrame.GAP}, "finish_reason": None}]}
    plain = {"id": "x", "choices": [{"delta": {"content": text}, "finish_reason": None}]}
    assert TextFrame(event).with_text(text) == frame(plain)

import pytest

from runtime.chat.answer import CallBegun, ReasoningPart, TextPart
from runtime.chat.call_form import GENERIC
from runtime.chat.calls import CallReader
from runtime.chat.conversation import Tool
from runtime.chat.reader import AnswerReader
from runtime.chat.reasoning import ThinkingMarks, ThinkingState
from runtime.engine.values.events import TextDelta, TokenProbs
from runtime.server.answering.scored import Scored, ScoredReader


def reader() -> ScoredReader:
    return ScoredReader(AnswerReader(ThinkingState(ThinkingMarks()), CallReader(GENERIC, [Tool("get")])))


def token(number: int) -> TokenProbs:
    return TokenProbs(number, b"?", -1.0, ())


def delta(number: int, text: str) -> TextDelta:
    return TextDelta(text, (number,), (token(number),))


def numbers(part: Scored) -> list[int]:
    return [each.token for each in part.probs]


def heard(*texts: str) -> list[tuple[object, list[int]]]:
    """Return what a reader makes of tokens with these texts: each part's event and its tokens' numbers."""
    scored = reader()
    parts = [part for number, text in enumerate(texts) for part in scored.take(delta(number, text))]
    return [(part.event, numbers(part)) for part in [*parts, *scored.end()]]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a", "b"], [(TextPart("a"), [0]), (TextPart("b"), [1])]),
        (["", "", "é"], [(TextPart("é"), [0, 1, 2])]),  # parts of a character
        (["a", "", "b"], [(TextPart("a"), [0]), (TextPart("b"), [1, 2])]),
        (["a", " <tool", "s"], [(TextPart("a"), [0]), (TextPart(" <tools"), [1, 2])]),  # no mark after all
        (["a", " <tool"], [(TextPart("a"), [0]), (TextPart(" <tool"), [1])]),
        (
            ["<th", "ink>", "Hm", "</think>", "a"],
            [(None, [0, 1]), (ReasoningPart("Hm"), [2]), (None, [3]), (TextPart("a"), [4])],
        ),
    ],
    ids=str,
)
def test_probabilities_come_with_their_tokens_text(texts: list[str], expected: list[tuple[object, list[int]]]) -> None:
    assert heard(*texts) == expected


def test_those_of_a_stop_string_never_come_also_where_the_reader_still_holds_text() -> None:
    assert heard("a", " ", "", "") == [(TextPart("a"), [0]), (TextPart(" "), [1])]


def test_every_token_with_text_comes_once_whatever_its_part_is() -> None:
    call = ["<tool_call>\n", '{"name": "get", ', '"arguments": {}}\n', "</tool_call>"]
    texts = ["<think>", "Hm", "</think>", "\n", "Text ", *call]
    found = heard(*texts)
    assert [number for _event, each in found for number in each] == list(range(len(texts)))
    assert any(isinstance(event, CallBegun) for event, _numbers in found)

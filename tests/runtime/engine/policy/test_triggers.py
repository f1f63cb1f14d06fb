import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.policy.triggers import TriggerSearch
from runtime.engine.values.grammar import Span


def fed(search: TriggerSearch, pieces: list[bytes]) -> bytes | None:
    """Feed pieces until one completes a trigger; return what the search found, and all that came after."""
    for place, piece in enumerate(pieces):
        found = search.found_with(piece)
        if found is not None:
            return found + b"".join(pieces[place + 1 :])
        search.feed(piece)
    return None


@pytest.mark.parametrize(
    ("triggers", "text", "found"),
    [
        (("<call>",), b"I will <call>now", b"<call>now"),
        (("<call>",), b"<call>", b"<call>"),
        (("<call>", "{"), b"so { or <call>", b"{ or <call>"),
        (("<call>",), b"<cal", None),
        (("aab",), b"aaab", b"aab"),
        (("ü",), "für".encode(), "ür".encode()),
    ],
)
def test_the_first_trigger_is_found_wherever_the_text_is_cut(
    triggers: tuple[str, ...], text: bytes, found: bytes | None
) -> None:
    assert fed(TriggerSearch(triggers), [text]) == found
    assert fed(TriggerSearch(triggers), [text[place : place + 1] for place in range(len(text))]) == found
    for cut in range(len(text) + 1):
        assert fed(TriggerSearch(triggers), [text[:cut], text[cut:]]) == found


@given(st.lists(st.text("ab<", max_size=3)), st.text("ab<", min_size=1, max_size=4))
def test_pieces_and_their_whole_give_the_same(pieces: list[str], trigger: str) -> None:
    whole = "".join(pieces)
    expected = whole[whole.index(trigger) :].encode() if trigger in whole else None
    assert fed(TriggerSearch((trigger,)), [piece.encode() for piece in pieces]) == expected


def test_looking_changes_nothing() -> None:
    search = TriggerSearch(("ab",))
    search.feed(b"a")
    assert search.found_with(b"b") == b"ab"
    assert search.found_with(b"x") is None
    assert search.found_with(b"b") == b"ab"


THOUGHT, BEGUN = Span("<think>", "</think>"), Span("<think>", "</think>", is_begun=True)


@pytest.mark.parametrize(
    ("skipped", "text", "found"),
    [
        (THOUGHT, b"<think>a <call></think>b<call>c", b"<call>c"),
        (THOUGHT, b"\n<think>a <call>", None),
        (THOUGHT, b"<thin<call>", b"<call>"),
        (THOUGHT, b"a <think> <call>", b"<call>"),
        (BEGUN, b"a <call> <think></think><call>", b"<call>"),
        (BEGUN, b"a <call>", None),
    ],
)
def test_no_trigger_counts_in_what_is_skipped(skipped: Span, text: bytes, found: bytes | None) -> None:
    def search() -> TriggerSearch:
        return TriggerSearch(("<call>",), skipped)

    assert fed(search(), [text]) == found
    assert fed(search(), [text[place : place + 1] for place in range(len(text))]) == found
    for cut in range(len(text) + 1):
        assert fed(search(), [text[:cut], text[cut:]]) == found

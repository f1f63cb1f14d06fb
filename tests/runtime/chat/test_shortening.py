import pytest

from runtime.chat.messages import Message, Role
from runtime.chat.shortening import shortened

ROLES = {"s": Role.SYSTEM, "u": Role.USER, "a": Role.ASSISTANT, "t": Role.TOOL}


def chat(words: str) -> tuple[Message, ...]:
    return tuple(Message(ROLES[word[0]], word) for word in words.split())


@pytest.mark.parametrize(
    ("words", "most", "expected"),
    [
        ("s1 u1 a1 u2 a2 u3", 6, "s1 u1 a1 u2 a2 u3"),
        ("s1 u1 a1 u2 a2 u3", 5, "s1 u2 a2 u3"),
        ("s1 u1 a1 u2 a2 u3", 3, "s1 u3"),
        ("s1 u1 a1 u2 a2 u3", 1, "s1 u3"),
        ("u1 a1 t1 a2 s2 u2 a3 t2", 7, "s2 u2 a3 t2"),
        ("u1 a1 t1 a2 t2", 2, "u1 a1 t1 a2 t2"),
        ("a1", 0, "a1"),
        ("u1 u2 u3 u4 u5 u6 u7 u8", 3, "u6 u7 u8"),
    ],
    ids=["fits", "one", "all but the last", "none fits", "call and result", "one turn", "no user", "many"],
)
def test_the_longest_end_that_fits_is_left(words: str, most: int, expected: str) -> None:
    assert shortened(chat(words), lambda end: len(end) <= most) == chat(expected)


def test_few_ends_are_tried() -> None:
    tried: list[int] = []

    def fits(end: tuple[Message, ...]) -> bool:
        tried.append(len(end))
        return len(end) <= 100

    assert len(shortened([Message(Role.USER, "u")] * 1000, fits)) == 100
    assert len(tried) <= 11


def test_ends_of_more_messages_than_there_may_be_are_not_tried() -> None:
    lengths = []

    def fits(end: tuple[Message, ...]) -> bool:
        lengths.append(len(end))
        return len(end) <= 3

    assert len(shortened([Message(Role.USER, "u")] * 1000, fits, most=100)) == 3
    assert max(lengths) <= 100
    assert len(shortened([Message(Role.USER, "u")] * 1000, fits, most=0)) == 1

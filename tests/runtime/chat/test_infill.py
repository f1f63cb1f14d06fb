import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.chat.infill import Gap, Snippet, fill_prompt
from runtime.engine.values.facts import FillTokens

PRE, SUF, MID, REP, SEP, BOS = 300, 301, 302, 303, 304, 305
MARKS = FillTokens(PRE, SUF, MID)
ALL_MARKS = FillTokens(PRE, SUF, MID, REP, SEP)


def bytes_of(text: str) -> list[int]:
    return list(text.encode())


def words(prompt: tuple[int, ...]) -> list[object]:
    """The prompt with its text joined: marks as they are, what lies between them as one text."""
    found: list[object] = []
    for token in prompt:
        if token >= PRE:
            found.append(token)
        elif found and isinstance(found[-1], str):
            found[-1] += chr(token)
        else:
            found.append(chr(token))
    return found


def fill(gap: Gap, marks: FillTokens = MARKS, bos: int | None = None, num_tokens: int = 1000) -> list[object]:
    return words(fill_prompt(gap, marks, bytes_of, bos=bos, num_tokens=num_tokens))


def test_what_stands_around_the_gap_lies_between_the_models_marks() -> None:
    assert fill(Gap("before", "after")) == [PRE, "before", SUF, "after", MID]
    assert fill(Gap("before", "after"), bos=BOS)[0] == BOS
    assert fill(Gap("", "")) == [PRE, SUF, MID]


def test_the_middles_beginning_follows_the_prefix() -> None:
    assert fill(Gap("before", "after", beginning=(33, 33))) == [PRE, "before!!", SUF, "after", MID]


def test_other_files_come_first_each_behind_its_name() -> None:
    gap = Gap("p", "s", (Snippet("one", "a.py"), Snippet("two")))
    around = [PRE, "p", SUF, "s", MID]
    assert fill(gap, ALL_MARKS) == [REP, "myproject\n", SEP, "a.py\none", SEP, "tmp\ntwo", SEP, "filename\n", *around]
    assert fill(gap) == ["\n\n--- snippet ---\n\none\n\n--- snippet ---\n\ntwo", *around]


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [
        (24, ["filename\n"[-4:], PRE, "p" * 10, SUF, "s" * 6, MID]),
        (20, [PRE, "p" * 10, SUF, "s" * 6, MID]),
        (12, [PRE, "p" * 6, SUF, "s" * 2, MID]),
        (4, [PRE, SUF, MID]),
        (0, [PRE, SUF, MID]),
    ],
)
def test_what_is_farthest_from_the_gap_is_left_out(num_tokens: int, expected: list[object]) -> None:
    gap = Gap("q" * 20 + "p" * 10 if num_tokens < 20 else "p" * 10, "s" * 6)
    assert fill(gap, FillTokens(PRE, SUF, MID, file=SEP), num_tokens=num_tokens) == expected


@given(st.text("ab", max_size=40), st.text("cd", max_size=40), st.text("ef", max_size=40), st.integers(0, 100))
def test_it_never_is_longer_than_there_is_room_for(prefix: str, suffix: str, other: str, num_tokens: int) -> None:
    gap = Gap(prefix, suffix, (Snippet(other),))
    prompt = fill_prompt(gap, ALL_MARKS, bytes_of, bos=BOS, num_tokens=num_tokens)
    assert len(prompt) <= max(num_tokens, 4)
    text = words(prompt)
    before = text[text.index(PRE) + 1]
    assert isinstance(before, int) or prefix.endswith(str(before))


def test_what_has_no_room_is_not_tokenized() -> None:
    num_chars = 0

    def counted(text: str) -> list[int]:
        nonlocal num_chars
        num_chars += len(text)
        return bytes_of(text)

    snippets = tuple(Snippet(f"{number} " + "s" * 100_000) for number in range(100))
    gap = Gap("p" * 1_000_000 + "!", "?" + "s" * 1_000_000, snippets)
    prompt = fill_prompt(gap, ALL_MARKS, counted, bos=BOS, num_tokens=200)
    assert len(prompt) <= 200
    assert num_chars < 50_000
    assert str(words(prompt)[-4]).endswith("p!")
    assert str(words(prompt)[-2]).startswith("?s")


@given(
    num_tokens=st.integers(0, 80),
    texts=st.lists(st.text("ab", max_size=30), max_size=5),
    marks=st.sampled_from([MARKS, ALL_MARKS]),
)
def test_snippets_are_the_end_of_all_of_them(num_tokens: int, texts: list[str], marks: FillTokens) -> None:
    gap = Gap("", "", tuple(map(Snippet, texts)))
    whole = fill_prompt(gap, marks, bytes_of, bos=None, num_tokens=10_000)[:-3]
    cut = fill_prompt(gap, marks, bytes_of, bos=None, num_tokens=num_tokens)[:-3]
    assert cut == whole[len(whole) - len(cut) :]
    assert len(cut) == min(max(num_tokens - 4, 0), len(whole))

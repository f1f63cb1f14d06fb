import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.store.search import fold, snippet, words_of


@pytest.mark.parametrize(
    ("text", "folded"),
    [("Hello", "hello"), ("ÉTÉ", "ete"), ("Straße", "strasse"), ("ﬁn", "fin"), ("İ", "i"), ("日本", "日本"), ("", "")],
)
def test_case_and_accents_do_not_count(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text())
def test_what_is_folded_stays_as_it_is(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(), st.text(), st.text())
def test_a_part_of_a_text_is_found_in_it(before: str, part: str, after: str) -> None:
    assert fold(part) in fold(before + part + after)


def test_a_query_is_its_words_each_once() -> None:
    assert words_of("  Où est  l'ÉTÉ est ") == ["ou", "est", "l'ete"]
    assert len(words_of(" ".join(map(str, range(100))))) == 16


@pytest.mark.parametrize("filler", ["word ", "été ", "ﬃ ß 각 "], ids=["ascii", "accents", "of other lengths"])
def test_a_snippet_shows_what_was_found_with_something_before_it(filler: str) -> None:
    text = filler * 100 + "Hier ist die Nadel im Heu. " + filler * 100
    shown = snippet(text, fold(text), "nadel")
    assert "ist die Nadel im Heu" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) < 210


def test_a_snippet_of_a_short_text_is_the_text_on_one_line() -> None:
    assert snippet("one\n\n two", "one\n\n two", "two") == "one two"


@given(st.text(max_size=300), st.text(min_size=1, max_size=5))
def test_a_snippet_is_always_a_part_of_its_text(text: str, word: str) -> None:
    shown = snippet(text, fold(text), fold(word)).strip("…")
    assert shown in " ".join(text.replace("…", "").split()) or "…" in text

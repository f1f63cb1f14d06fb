from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.policy.text import TextStream


def stream(pieces: list[bytes], stop: tuple[str, ...]) -> tuple[str, str]:
    stream = TextStream(stop)
    text = "".join(stream.feed(piece) for piece in pieces)
    return text + stream.finish(), stream.stopping_string


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def test_a_character_cut_over_two_pieces_comes_out_whole() -> None:
    text = TextStream()
    assert text.feed("é".encode()[:1]) == ""
    assert text.feed("é".encode()[1:]) == "é"


def test_an_unfinished_character_at_the_end_is_dropped() -> None:
    assert stream(["ab€".encode()[:-1]], ()) == ("ab", "")


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert stream([b"a\xffb"], ()) == ("a\ufffdb", "")


def test_a_stop_string_across_pieces_ends_the_text_before_it() -> None:
    text = TextStream(("\nUser:",))
    assert text.feed(b"Hello\nUs") == "Hello"
    assert text.feed(b"er: hi") == ""
    assert text.stopping_string == "\nUser:"
    assert text.feed(b"more") == ""


def test_what_only_looked_like_a_stop_string_comes_out_after_all() -> None:
    text = TextStream(("###",))
    assert text.feed(b"a##") == "a"
    assert text.feed(b"b") == "##b"


def test_the_text_kept_back_comes_out_at_the_end() -> None:
    assert stream([b"a##"], ("###",)) == ("a##", "")


def test_the_earliest_of_several_stop_strings_wins() -> None:
    assert stream([b"one two three"], ("three", "two")) == ("one ", "two")


def test_of_two_stop_strings_at_one_place_the_longer_one_is_reported() -> None:
    assert stream([b"abcd"], ("bc", "bcd")) == ("a", "bcd")


@given(
    text=st.text(alphabet="abé€😀", max_size=30),
    stop=st.lists(st.text(alphabet="abé€", min_size=1, max_size=3), max_size=3),
    places=st.lists(st.integers(0, 200), max_size=8),
)
def test_however_the_bytes_are_cut_no_stop_string_is_shown(text: str, stop: list[str], places: list[int]) -> None:
    shown, stopping = stream(cut_at(text.encode(), places), tuple(stop))
    assert text.startswith(shown)
    assert not any(each in shown for each in stop)
    assert bool(stopping) == any(each in text for each in stop)
    if not stopping:
        assert shown == text


@given(text=st.text(alphabet="abc", max_size=20), places=st.lists(st.integers(0, 40), max_size=6))
def test_fed_whole_is_fed_byte_by_byte(text: str, places: list[int]) -> None:
    # One stop string: with several, a longer one that starts earlier may only be complete in a later piece.
    whole = stream([text.encode()], ("bca",))
    assert stream([bytes([byte]) for byte in text.encode()], ("bca",)) == whole
    assert stream(cut_at(text.encode(), places), ("bca",)) == whole

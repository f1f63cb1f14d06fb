"""Long texts to tokens in pieces, by the tokenizers of two real models."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine.native import Library, Model
from runtime.engine.native.long_text import MAX_PIECE_CHARS, tokens_of_pieces
from runtime.errors import RequestError, TooManyTokens

NUM_CHARS = 2 * MAX_PIECE_CHARS + 1000
WORDS = (
    "the",
    "cat",
    "and,",
    "dog.",
    "Once",
    "upon",
    "a",
    "time\n\n",
    "There",
    "123",
    "  was",
    "x1",
    "é",
    "的。是",
    "🎈",
)


@pytest.fixture(scope="module", params=["words", "characters"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    """One that splits texts into words first, and one that puts a space before each text."""
    path: Path = request.getfixturevalue("smollm2" if request.param == "words" else "stories260k")
    model = Model(Library(), path)
    yield model
    model.close()


def words(seed: int, separator: str) -> str:
    chosen = random.Random(seed)
    return separator.join(chosen.choice(WORDS) for _ in range(NUM_CHARS // 3))


TEXTS = {
    "prose": words(1, " "),
    "lines": words(2, "\n"),
    "no spaces": words(3, ","),
    "code": "    if value is None:\n        return (1, 2)\n\n" * (NUM_CHARS // 40),
    "marks": "<|im_start|>user\nHello <|im_end|>\n" * (NUM_CHARS // 30),
    "indented": f"{' ' * 100}x" * (NUM_CHARS // 100),
    "digits": "1234567890" * (NUM_CHARS // 10),
    "one word": "ab" * (NUM_CHARS // 2),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("is_special", [True, False])
def test_the_tokens_of_pieces_are_those_of_the_whole(model: Model, text: str, is_special: bool) -> None:
    whole = model._tokenize(text, add_special=is_special, parse_special=is_special)
    assert model.tokenize(text, add_special=is_special, parse_special=is_special) == whole


def test_no_piece_is_long(model: Model) -> None:
    lengths = []

    def tokenize(text: str) -> list[int]:
        lengths.append(len(text))
        return model._tokenize(text, add_special=False, parse_special=True)

    for text in TEXTS.values():
        for _tokens in tokens_of_pieces(text, tokenize):
            pass
    assert max(lengths) <= 2 * MAX_PIECE_CHARS + 1000


def test_a_text_that_is_far_too_long_is_not_tokenized_to_its_end(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.engine.native.model._MAX_COUNTED_CHARS", MAX_PIECE_CHARS)
    text = "hello " * (40 * MAX_PIECE_CHARS // 6)
    with pytest.raises(TooManyTokens) as refusal:
        model.tokenize(text, add_special=True, parse_special=True, max_tokens=100)
    assert 100 < refusal.value.num_tokens < 4 * MAX_PIECE_CHARS
    assert refusal.value.max_tokens == 100


def test_one_that_is_not_so_long_is_counted_to_its_end(model: Model) -> None:
    text = TEXTS["prose"]
    assert len(model.tokenize(text, add_special=True, parse_special=True, max_tokens=100)) > 100


def test_what_can_not_be_cut_is_refused_in_words() -> None:
    def tokenize(text: str) -> list[int]:
        return [len(text)]  # every text is one token

    found = tokens_of_pieces("x" * 10 * MAX_PIECE_CHARS, tokenize)
    assert len(next(found)) == 1  # for who counts
    with pytest.raises(RequestError, match="a word of more than"):
        next(found)

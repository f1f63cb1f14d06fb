"""A gap in a text to the prompt of a model that was trained to fill one. Pure.

The layout is that of llama.cpp's `/infill`, which models of the Qwen-Coder family know: other files first, each behind
its name, then what stands before the gap, what stands after it, and the mark that asks for the middle.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from runtime.engine.values.facts import FillTokens

# Models expect names of a project and of a file; llama.cpp gives every model these.
_PROJECT, _FILE = "myproject\n", "filename\n"
_NO_FILE_MARK = "\n\n--- snippet ---\n\n"
_NUM_MARKS = 4  # prefix, suffix, middle and BOS
_MOST_CHARS_A_TOKEN = 64  # in the mean of any text that is worth its place

Tokenize = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of another file."""

    text: str
    filename: str = "tmp"


@dataclass(frozen=True, slots=True)
class Gap:
    """What stands around the gap, `snippets` of other files, and the tokens that the middle begins with."""

    prefix: str
    suffix: str
    snippets: tuple[Snippet, ...] = ()
    beginning: tuple[int, ...] = ()


def fill_prompt(
    gap: Gap, marks: FillTokens, tokenize: Tokenize, *, bos: int | None, num_tokens: int
) -> tuple[int, ...]:
    """Return the prompt, at most `num_tokens` long as far as its beginning leaves room.

    Of what is too long the parts that are farthest from the gap are left out: snippets first, then the prefix's head
    and the suffix's tail, so that the prefix keeps three quarters of the room.
    """
    room = max(num_tokens - len(gap.beginning) - _NUM_MARKS, 0)
    max_chars = _MOST_CHARS_A_TOKEN * (room + 1)
    prefix, suffix = tokenize(gap.prefix[-max_chars:]), tokenize(gap.suffix[:max_chars])
    prefix = _last(prefix, max(room * 3 // 4, room - len(suffix)))
    suffix = suffix[: max(room - len(prefix), 0)]
    others = _snippet_tokens(gap.snippets, marks, tokenize, room - len(prefix) - len(suffix))
    first = [] if bos is None else [bos]
    return (*others, *first, *(marks.prefix, *prefix, *gap.beginning), *(marks.suffix, *suffix), marks.middle)


def _snippet_tokens(
    snippets: tuple[Snippet, ...], marks: FillTokens, tokenize: Tokenize, num_tokens: int
) -> Iterable[int]:
    """Return the last tokens of the snippets, and tokenize no more of them than that takes."""
    parts = [] if marks.file is None else [[marks.file, *tokenize(_FILE)]]
    num_missing = num_tokens - sum(map(len, parts))
    for snippet in reversed(snippets):
        if num_missing <= 0:
            break
        name = tokenize(_NO_FILE_MARK) if marks.file is None else [marks.file, *tokenize(f"{snippet.filename}\n")]
        parts.append([*name, *tokenize(snippet.text[-_MOST_CHARS_A_TOKEN * num_missing :])])
        num_missing -= len(parts[-1])
    if marks.repository is not None:
        parts.append([marks.repository, *tokenize(_PROJECT)])
    return _last([token for part in reversed(parts) for token in part], num_tokens)


def _last(tokens: list[int], count: int) -> list[int]:
    return tokens[max(len(tokens) - max(count, 0), 0) :]

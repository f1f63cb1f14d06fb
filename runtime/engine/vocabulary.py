"""Texts to token ids and back, as one model has them. Any thread: nothing here computes."""

from collections.abc import Sequence
from functools import cached_property

from runtime.engine.native import Model, Projector, write_messages
from runtime.engine.values.facts import FillTokens
from runtime.engine.values.request import Prompt
from runtime.errors import RequestError


class Vocabulary:
    """The words of a model; with a projector, pictures and sounds among them."""

    def __init__(self, model: Model, projector: Projector | None = None) -> None:
        self._model = model
        self._projector = projector

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return token ids. `add_special` adds BOS/EOS where the model wants them; `parse_special` reads `<|x|>`."""
        return self._model.tokenize(text, add_special=add_special, parse_special=parse_special)

    def read(self, text: str, files: Sequence[bytes], param: str) -> Prompt:
        """Return the prompt of a text in which each `media.MARK` stands for a picture or a sound, the next of `files`.

        Raises RequestError for those that can't be read or aren't what this model reads. Blocks; call from a thread.
        """
        if self._projector is None:
            raise RequestError(f"'{param}' has pictures or sounds, but this model reads text only", param)
        return self._projector.read(text, files, param)

    def pair(self, first: str, second: str) -> list[int]:
        """Return two texts with the model's special tokens around and between them, as a ranking model reads them."""
        return self._model.pair(first, second)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included; RequestError for ids outside the vocabulary."""
        return self._model.detokenize(tokens)

    def piece(self, token: int) -> bytes:
        """Return the bytes that a token stands for; empty for control tokens."""
        return self._model.piece(token)

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens at which the model ends. Blocks the first time; call from a thread."""
        return tuple(filter(self._model.is_end_of_generation, range(self._model.facts.n_vocab)))

    @property
    def fill_tokens(self) -> FillTokens | None:
        """The tokens around a gap to fill; None when the model wasn't trained to fill any."""
        return self._model.fill_tokens

    @property
    def metadata(self) -> dict[str, str]:
        """What the model's file says of it, by GGUF's keys; lists are left out."""
        return self._model.all_metadata()

    def write_messages(
        self, template: str, messages: Sequence[tuple[str, str]], *, adds_generation_prompt: bool
    ) -> str:
        """Return the prompt of (role, text) pairs by one of llama.cpp's own templates. Raises RequestError."""
        return write_messages(self._model.library, template, messages, adds_generation_prompt=adds_generation_prompt)

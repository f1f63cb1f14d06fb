"""What the rest of the program sees of an engine. Methods may be called from any thread.

`AnyEngine` is `runtime.engine.engine.Engine`, and in tests one with a script.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from runtime.engine.values.commands import Command
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import Sink
from runtime.engine.values.facts import FillTokens, LoraInfo, ModelInfo, Pooling
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.meter import Meter
from runtime.engine.values.request import GenerationRequest, Prompt
from runtime.errors import HoldallError

T = TypeVar("T")


class AnyVocabulary(Protocol):
    """Texts to token ids and back; see `Vocabulary`."""

    @property
    def fill_tokens(self) -> FillTokens | None: ...

    @property
    def end_tokens(self) -> tuple[int, ...]: ...

    @property
    def metadata(self) -> dict[str, str]: ...

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...

    def read(self, text: str, files: Sequence[bytes], param: str) -> Prompt: ...

    def pair(self, first: str, second: str) -> list[int]: ...

    def detokenize(self, tokens: Sequence[int]) -> str: ...

    def piece(self, token: int) -> bytes: ...

    def write_messages(
        self, template: str, messages: Sequence[tuple[str, str]], *, adds_generation_prompt: bool
    ) -> str: ...


class AnyEngine(Protocol):
    """An engine; see `Engine`."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def vocabulary(self) -> AnyVocabulary: ...

    @property
    def pooling(self) -> Pooling: ...

    @property
    def can_rank(self) -> bool: ...

    @property
    def max_text_tokens(self) -> int: ...

    @property
    def num_processing(self) -> int: ...

    @property
    def num_deferred(self) -> int: ...

    def meter(self) -> Meter: ...

    def lora_adapters(self) -> tuple[LoraInfo, ...]: ...

    def set_lora_scales(self, scales: Iterable[tuple[int, float]]) -> None: ...

    def prepare(self, grammar: Grammar) -> None: ...

    def submit(self, request: GenerationRequest, sink: Sink) -> int: ...

    def cancel(self, sequence_id: int) -> None: ...

    def embed(self, job: EmbeddingJob) -> None: ...

    def command(self, command: Command[T], answer: Callable[[T | HoldallError], None]) -> None: ...

    def close(self) -> None: ...

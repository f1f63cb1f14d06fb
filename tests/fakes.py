"""A scripted engine: `runtime.engine.interface.AnyEngine` with no model behind it.

Its tokens are the bytes of UTF-8, and two special ones. Every request gets the same scripted pieces as its answer; by
default they play by themselves, and a held engine moves only when the test calls `step`.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Tokens
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runtime.engine.interface import AnyEngine
from runtime.engine.policy.text import TextStream
from runtime.engine.values.commands import Command
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Progress,
    Sink,
    TextDelta,
    Timings,
    TokenProbs,
)
from runtime.engine.values.facts import ControlToken, FillTokens, LoraInfo, ModelInfo, Pooling
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.media import MARK, Media, MediaKind
from runtime.engine.values.meter import Meter
from runtime.engine.values.request import MAX_TEXT_TOKENS, GenerationRequest, Prompt, PromptBuilder, TextPart
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import PromptTooLong, RequestError, TextTooLong, TooManyTokens, Unavailable
from runtime.nursery import Patience

BOS, EOS = 256, 257
_SPECIAL = {BOS: b"<s>", EOS: b"</s>"}


class ScriptedVocabulary:
    """The bytes of UTF-8."""

    end_tokens = (EOS,)
    control_tokens = tuple(ControlToken(name.decode()) for name in _SPECIAL.values())

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self.fill_tokens: FillTokens | None = None
        self.most_asked: int | None = None  # by the last text to be tokenized
        self.num_texts = 0

    def tokenize(
        self, text: str, *, add_special: bool, parse_special: bool, max_tokens: int = MAX_TEXT_TOKENS
    ) -> list[int]:
        self.most_asked = max_tokens
        self.num_texts += 1
        tokens = [BOS] if add_special and self._info.add_bos else []
        data = text.encode("utf-8")
        if len(data) > max(max_tokens, 16_384):  # a long text; others are tokenized, and refused later
            raise TooManyTokens(len(data), max_tokens)
        while data:
            special = next((t for t, name in _SPECIAL.items() if parse_special and data.startswith(name)), None)
            tokens.append(data[0] if special is None else special)
            data = data[1 if special is None else len(_SPECIAL[special]) :]
        return tokens

    def detokenize(self, tokens: Tokens[int]) -> str:
        return b"".join(self.piece(token) for token in tokens).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        if not 0 <= token < self._info.n_vocab:
            raise RequestError(f"token id {token} is not in the vocabulary")
        return _SPECIAL.get(token) or bytes([token])

    def write_messages(self, template: str, messages: Tokens[tuple[str, str]], *, adds_generation_prompt: bool) -> str:
        written = "".join(f"<{role}>{text}" for role, text in messages)
        return f"{template}:{written}{'<assistant>' if adds_generation_prompt else ''}"

    def all_metadata(self) -> dict[str, str]:
        return {
            "general.architecture": "script",
            "general.file_type": "15",
            "general.license": "apache-2.0",
            "general.name": "scripted",
            "general.size_label": "135",
            "script.block_count": "30",
            "script.context_length": "8192",
            "script.rope.freq_base": "100000.000000",
            "tokenizer.chat_template": "long",
            "tokenizer.ggml.add_bos_token": "false",
        }

    def pair(self, first: str, second: str) -> list[int]:
        return [*first.encode(), EOS, *second.encode()]


class ScriptedEngine:
    """Answers every request with `pieces`, then ends the text, or fails with `error`."""

    def __init__(
        self,
        pieces: Tokens[str] = ("Hello", " world"),
        *,
        is_held: bool = False,
        error: Exception | None = None,
        n_ctx: int = 4096,
        chat_template: str | None = None,
        is_template_named: bool = False,
        add_bos: bool = False,
        adapters: Mapping[str, float] | None = None,
        media_kinds: Tokens[MediaKind] = (),
    ) -> None:
        self.info = ModelInfo(
            name="scripted",
            description="a scripted model",
            architecture="script",
            n_ctx=n_ctx,
            n_ctx_train=8192,
            n_vocab=258,
            n_embd=8,
            n_params=1000,
            size_bytes=2000,
            chat_template=chat_template,
            is_template_named=is_template_named,
            bos_token="<s>",
            eos_token="</s>",
            add_bos=add_bos,
            num_slots=4,
            vocab_type=1,
            is_memory_cuttable=True,
            quantization="Q4_K_M",
            media_kinds=frozenset(media_kinds),
        )
        self.vocabulary = ScriptedVocabulary(self.info)
        self.pooling = Pooling.MEAN
        self.max_text_tokens = 64  # less than n_ctx, as it may be
        self.adapters = dict(adapters or {})  # scales by name
        self.can_rank = False
        self.pieces = tuple(pieces)
        self.error = error
        self.is_held = is_held
        self.end_token: int | None = None  # what ends the text
        self.requests: list[GenerationRequest] = []
        self.commands: list[Command[Any]] = []
        self.answers: dict[type[Command[Any]], Any] = {}  # by the kind of command; an exception is an answer, too
        self.prepared: list[Grammar] = []
        self.cancelled = asyncio.Event()  # set when a sequence was cancelled before its end
        self.submitted = asyncio.Event()
        self._running: dict[int, tuple[Sink, list[Event]]] = {}

    def lora_adapters(self) -> tuple[LoraInfo, ...]:
        return tuple(LoraInfo(name, scale, "task", "") for name, scale in self.adapters.items())

    def set_lora_scales(self, scales: Iterable[tuple[int, float]]) -> None:
        given, names = dict(scales), list(self.adapters)
        unknown = next((index for index in given if not 0 <= index < len(names)), None)
        if unknown is not None:
            raise RequestError(f"there is no LoRA adapter {unknown}", "lora")
        self.adapters = {name: given.get(index, 0.0) for index, name in enumerate(names)}

    def read(self, parts: Tokens[TextPart], files: Tokens[bytes], param: str) -> Prompt:
        """Take four tokens for each picture, whatever is in it; its raw form is the file."""
        if not self.info.media_kinds:
            raise RequestError(f"'{param}' has pictures or sounds, but this model reads text only", param)
        placing, left = PromptBuilder(), iter(files)
        for number, part in enumerate(parts):
            for index, text in enumerate(part.text.split(MARK)):
                if index:
                    file = next(left)
                    placing.add_media(Media(file.hex(), len(placing.tokens), 4, 4, raw=file))
                is_first = number == index == 0
                parses_special = part.parses_special
                placing.add_text(self.vocabulary.tokenize(text, add_special=is_first, parse_special=parses_special))
        return Prompt(tuple(placing.tokens), tuple(placing.media))

    def compile(self, grammar: Grammar, patience: Patience | None = None) -> None:
        self.prepared.append(grammar)

    def prepare(self, sampling: SamplingParams, patience: Patience | None = None) -> None:
        if sampling.grammar is not None:
            self.compile(sampling.grammar)

    def submit(self, request: GenerationRequest, sink: Sink) -> int:
        if not request.prompt.tokens:
            raise RequestError("the prompt is empty", "prompt")
        if len(request.prompt.tokens) >= self.info.n_ctx:
            raise PromptTooLong(len(request.prompt.tokens), self.info.n_ctx)
        if max(request.prompt.tokens) >= self.info.n_vocab:
            raise RequestError("the prompt has token ids outside the vocabulary", "prompt")
        self.requests.append(request)
        sequence_id = len(self.requests)
        self._running[sequence_id] = (sink, self._script(request))
        self.submitted.set()
        if not self.is_held:
            asyncio.get_running_loop().call_soon(self._play, sequence_id)
        return sequence_id

    def embed(self, job: EmbeddingJob) -> None:
        """A text's vector counts its tokens: how many, and their sum."""
        job.check(self.info.n_vocab, self.info.n_ctx)
        if self.is_held:
            return
        for index, text in enumerate(job.texts):
            if len(text) > self.max_text_tokens:
                raise TextTooLong(job.param, index, len(text), self.max_text_tokens)
            job.results.append([[float(len(text)), float(sum(text))] + [0.0] * 6])
        if self.pooling is Pooling.RANK:
            job.results[:] = [[[float(text.count(ord("a")))]] for text in job.texts]
        asyncio.get_running_loop().call_soon(job.sink, self.error or job)

    def cancel(self, sequence_id: int) -> None:
        if self._running.pop(sequence_id, None):
            self.cancelled.set()

    def command(self, command: Command[Any], answer: Callable[[Any], None]) -> None:
        self.commands.append(command)
        asyncio.get_running_loop().call_soon(answer, self.answers[type(command)])

    def meter(self) -> Meter:
        return Meter(num_steps=len(self.requests))

    @property
    def num_processing(self) -> int:
        return len(self._running)

    @property
    def num_deferred(self) -> int:
        return 0

    def close(self) -> None:
        for sink, _events in self._running.values():
            sink(Failed(Unavailable("the program is stopping")))
        self._running.clear()

    def step(self) -> None:
        """Let every running sequence have its next event."""
        for sequence_id, (sink, events) in list(self._running.items()):
            event = events.pop(0)
            if not events:
                del self._running[sequence_id]
            sink(event)

    def _play(self, sequence_id: int) -> None:
        if sequence_id in self._running:
            self.step()
            asyncio.get_running_loop().call_soon(self._play, sequence_id)

    def _script(self, request: GenerationRequest) -> list[Event]:
        params, num_prompt_tokens = request.params, len(request.prompt.tokens)
        slot = params.slot or 0
        events: list[Event] = []
        if params.wants_progress or params.wants_prompt_probs:
            told = request.prompt.tokens[1:] if params.wants_prompt_probs else ()
            probs = tuple(_probs(token, self.vocabulary.piece(token), params.sampling.n_probs) for token in told)
            events = [
                Progress(num_prompt_tokens, Timings(count, 0, 0, count / 100, 0.0), slot, probs if count else ())
                for count in (0, num_prompt_tokens)
            ]
        stream, num_generated, reason = TextStream(params.stop), 0, FinishReason.END_OF_TEXT
        for index, piece in enumerate(self.pieces):
            if index == params.max_tokens:
                reason = FinishReason.LENGTH
                break
            num_generated = index + 1
            timings = Timings(num_prompt_tokens - 1, 1, num_generated, 0.5, 0.1) if params.wants_timings else None
            data, num_probs = piece.encode("utf-8"), params.sampling.n_probs
            probs = (_probs(index, data, num_probs),) if num_probs else ()
            events.append(TextDelta(stream.feed(data), (index,), probs, slot, timings))
            if stream.stopping_string:
                reason = FinishReason.STOP_STRING
                break
        if self.error is not None:
            return [*events, Failed(self.error)]
        rest = stream.finish()
        timings = Timings(num_prompt_tokens - 1, 1, num_generated, 0.5, 0.25)
        last = Finished(reason, timings, stream.stopping_string, slot)
        if reason is FinishReason.END_OF_TEXT and self.end_token is not None:
            num_probs = params.sampling.n_probs
            end_probs = _probs(self.end_token, b"", num_probs) if num_probs else None
            last = replace(last, end_token=self.end_token, end_probs=end_probs)
        return [*events, *([TextDelta(rest, (), slot=slot)] if rest else []), last]


def _probs(token: int, piece: bytes, count: int) -> TokenProbs:
    """Half for the token itself, a quarter for the next, and so on."""
    top = [(token, piece, -math.log(2)), *((token + n, b"?%d" % n, -math.log(2) * (n + 1)) for n in range(1, count))]
    return TokenProbs(token, piece, -math.log(2), tuple(top))


if TYPE_CHECKING:
    _: AnyEngine = ScriptedEngine()  # mypy holds the script to the protocol

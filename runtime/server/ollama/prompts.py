"""What an answer in Ollama's dialect goes on from: a prompt in one of its kinds, or a conversation."""

from dataclasses import dataclass, replace

from runtime.chat.conversation import Conversation, Tool, ToolUse
from runtime.chat.messages import Message, Role
from runtime.chat.prompt_text import prompt_tokens
from runtime.chat.reader import AnswerReader
from runtime.chat.turn import next_turn, profile_in
from runtime.checked import JsonObject, wrong
from runtime.engine.interface import AnyEngine
from runtime.engine.values.media import MARK
from runtime.engine.values.request import GenerationRequest, TextPart
from runtime.engine.values.request import Prompt as EnginePrompt
from runtime.errors import RequestError
from runtime.nursery import Patience
from runtime.server.asking.fields import Flag, Special, Text
from runtime.server.asking.infill import fill_tokens
from runtime.server.asking.prompts import is_token
from runtime.server.ollama.messages import read_images
from runtime.server.ollama.params import OllamaParams

_PROMPT = Text("prompt", "The user's message, or with raw the text to go on with. Empty: load the model.")
_SUFFIX = Text("suffix", "Text after the answer, for models trained to fill gaps.")
_SYSTEM = Text("system", "The system message.")
_RAW = Flag("raw", "Take the prompt as it is, without the model's template.")
_CONTEXT = Special(
    "context", "The context of an earlier answer, to go on from.", {"type": "array", "items": {"type": "integer"}}
)
_IMAGES = Special(
    "images", "Pictures in base64, for models that read them.", {"type": "array", "items": {"type": "string"}}
)
PROMPT_FIELDS = (_PROMPT, _SUFFIX, _SYSTEM, _RAW, _CONTEXT, _IMAGES)
_NOT_WHEN_RAW = (_SYSTEM, _CONTEXT)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of `/api/generate`; `context` is what an earlier answer gave to go on from, as token ids."""

    text: str
    suffix: str
    system: str
    context: tuple[int, ...]
    is_raw: bool
    images: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, body: JsonObject) -> "Prompt":
        is_raw = _RAW.value_in(body, False)
        if body.text("template", None):
            raise RequestError("'template' can't be changed here; with 'raw' the prompt is taken as it is", "template")
        for each in _NOT_WHEN_RAW:
            if is_raw and body.raw(each.name):
                raise RequestError(f"raw mode does not support '{each.name}'; write it into the prompt", each.name)
        images = read_images(body.raw(_IMAGES.name), _IMAGES.name)
        for each in (_SUFFIX, _CONTEXT):
            if images and body.raw(each.name):
                raise RequestError(f"'{_IMAGES.name}' and '{each.name}' can't be combined", _IMAGES.name)
        return cls(
            text=_PROMPT.value_in(body, ""),
            suffix=_SUFFIX.value_in(body, ""),
            system=_SYSTEM.value_in(body, ""),
            context=_read_context(body.raw(_CONTEXT.name)),
            is_raw=is_raw,
            images=images,
        )

    @property
    def is_empty(self) -> bool:
        return not (self.text or self.suffix or self.images)

    @property
    def can_be_gone_on_with(self) -> bool:
        """Whether its tokens and the answer's are a context for another prompt."""
        return not (self.is_raw or self.images)

    def prepare(self, engine: AnyEngine, params: OllamaParams) -> "Prepared":
        """Return what is asked of the engine. Raises RequestError. Blocks; call from a thread."""
        if self.suffix:
            tokens = fill_tokens(engine, self.text, self.suffix, max_tokens=params.generation.max_tokens)
            return _unread(params, EnginePrompt(tokens))
        text = MARK * len(self.images) + self.text
        if self.is_raw and self.images:
            read = engine.read([TextPart(text)], self.images, _IMAGES.name)
            return _unread(params, read)
        if self.is_raw:
            return _unread(params, EnginePrompt(prompt_tokens(engine, self.text, is_first=True)))
        system = (Message(Role.SYSTEM, self.system),) if self.system else ()
        asked = Message(Role.USER, text, attachments=self.images)
        return prepare_chat(engine, params, (*system, asked), (), before=self.context)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is asked of the engine, and how its answer is read."""

    request: GenerationRequest
    reader: AnswerReader


def _unread(params: OllamaParams, prompt: EnginePrompt) -> Prepared:
    """Return a prompt whose answer is text and nothing else."""
    return Prepared(GenerationRequest(prompt, params.generation), AnswerReader(None, None))


def prepare_chat(
    engine: AnyEngine,
    params: OllamaParams,
    messages: tuple[Message, ...],
    tools: tuple[Tool, ...],
    *,
    before: tuple[int, ...] = (),
    patience: Patience | None = None,
) -> Prepared:
    """Return the same for a conversation after the tokens `before`. Raises RequestError. Blocks; call from a thread."""
    if params.asks_to_think and not profile_in(engine).marks.is_known:
        raise RequestError(f"{params.model!r} does not support thinking", "think")
    last = messages[-1]
    conversation = Conversation(
        messages,
        ToolUse(tools),
        thinking=params.thinking,
        variables=params.variables,
        parses_special=params.parses_special,
        continues_last=len(messages) > 1 and last.role is Role.ASSISTANT and not last.tool_calls,
    )
    grammar = params.generation.sampling.grammar
    turn = next_turn(engine, conversation, grammar, is_first=not before, patience=patience)
    asked = turn.ask(params.generation)
    prompt = replace(asked.prompt, tokens=before + asked.prompt.tokens)
    return Prepared(replace(asked, prompt=prompt), turn.reader())


def _read_context(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(map(is_token, value)):
        raise wrong(_CONTEXT.name, "a list of token ids, as an answer gave it")
    return tuple(value)

"""The assistant's next turn: what the engine is asked for, and how its answer is read.

    turn = next_turn(engine, conversation, answer_form)      # renders and tokenizes: in a thread
    request = turn.ask(params)                               # a request: prompt, grammar and shown tokens filled in
    reader = turn.reader()                                   # one for each answer
    for delta in deltas:  events += reader.feed(delta.text)  # text, reasoning and tool calls, as they come
    events += reader.finish()

How the model of a template thinks and calls tools is learnt from the template, once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from runtime.chat.call_form import GENERIC, LearntForm, learn_call_form
from runtime.chat.call_grammar import Calls, GrammarWriter, arguments_schema, loosened
from runtime.chat.calls import CallReader
from runtime.chat.control_names import broken, control_names, restored, stand_ins_for
from runtime.chat.conversation import Conversation, Tool, ToolChoice, ToolUse
from runtime.chat.messages import Message
from runtime.chat.named_template import NamedTemplate
from runtime.chat.prompt_text import tokens_of
from runtime.chat.reader import AnswerReader
from runtime.chat.reasoning import Stage, ThinkingMarks, ThinkingState, learn_thinking_marks
from runtime.chat.template import ChatTemplate, MessageFormat, load_template, without_bos
from runtime.chat.tools import with_calls_written_out, with_tools_described
from runtime.engine.interface import AnyEngine
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.engine.values.request import GenerationParams, GenerationRequest, Prompt, TextPart
from runtime.errors import RequestError
from runtime.nursery import Patience

_THINKING_VARIABLES = ("enable_thinking", "thinking")  # by what templates call it


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that is ready to be asked for. `thinking` None: nothing of the answer counts as such."""

    prompt: Prompt
    grammar: Grammar | None
    shown_tokens: frozenset[int]
    thinking: ThinkingState | None
    calls: Calls | None

    def ask(self, params: GenerationParams) -> GenerationRequest:
        """Return the request for this turn's answer."""
        sampling = replace(params.sampling, grammar=self.grammar)
        return GenerationRequest(self.prompt, replace(params, sampling=sampling, shown_tokens=self.shown_tokens))

    def reader(self) -> AnswerReader:
        """Return a reader for one answer."""
        calls = CallReader(self.calls.form, self.calls.tools) if self.calls else None
        return AnswerReader(self.thinking, calls)


@dataclass(frozen=True, slots=True)
class TemplateProfile:
    """How the model of one template writes. `call_form` None: its template knows no calls that could be learnt."""

    marks: ThinkingMarks
    call_form: LearntForm | None
    message_format: MessageFormat

    @property
    def can_call(self) -> bool:
        """Whether the template itself describes tools to the model."""
        return self.call_form is not None and self.call_form.describes_tools


@lru_cache(maxsize=8)
def profile_of(template: ChatTemplate) -> TemplateProfile:
    learnt = learn_call_form(template)
    return TemplateProfile(learn_thinking_marks(template), learnt, learnt.message_format if learnt else MessageFormat())


def profile_in(engine: AnyEngine) -> TemplateProfile:
    """Return how an engine's model writes. Blocks the first time; call from a thread."""
    return profile_of(template_in(engine))


def template_in(engine: AnyEngine) -> ChatTemplate:
    """Return the template of an engine's model. Raises RequestError when it isn't one."""
    info = engine.info
    if info.chat_template is not None and info.is_template_named:
        return NamedTemplate(info.chat_template, engine.vocabulary.write_messages)
    return load_template(info.chat_template, info.bos_token, info.eos_token)


def next_turn(
    engine: AnyEngine,
    conversation: Conversation,
    answer_form: Grammar | None = None,
    *,
    is_first: bool = True,
    is_counted: bool = False,
    patience: Patience | None = None,
) -> Turn:
    """Return the turn that goes on with a conversation; its text, where there is a form for it, holds to that.

    Not `is_first`: the prompt follows other tokens, and has no pictures. `is_counted`: it may be longer than the
    context. Blocks, no longer than `patience` where it has to compile; call from a thread. Raises what `Engine.compile`
    raises, and PromptTooLong for what is far too long.
    """
    info = engine.info
    template = template_in(engine)
    profile = profile_of(template)
    prompt, thinking, stand_ins = _guarded_prompt(engine, template, profile, conversation)
    is_own = answer_form is not None and answer_form.kind is not GrammarKind.JSON_SCHEMA
    if is_own and thinking is not None and thinking.is_begun:  # the caller's grammar is that of the whole answer
        prompt, thinking = _with_thinking_ended(prompt, thinking.marks), ThinkingState(thinking.marks, Stage.ENDED)
    calls = _calls(conversation.tool_use, profile)
    if is_own and calls is not None:
        raise RequestError("a grammar can't be combined with tools; leave one of them out", "grammar")
    writer = GrammarWriter(lambda mark: _control_token(engine, mark), engine.vocabulary.end_tokens if calls else ())
    allowed_thinking = thinking if thinking and _may_think(thinking, conversation) else None
    grammar = answer_form
    if calls is not None:
        choice = conversation.tool_use.choice

        def grammar_of(usable: Calls) -> Grammar:
            if choice is ToolChoice.AUTO and answer_form is None:
                return writer.lazy(usable, thinking)
            answer = answer_form if choice is ToolChoice.AUTO else None
            return writer.strict(calls=usable, answer=answer, thinking=allowed_thinking)

        calls, grammar = _usable(partial(engine.compile, patience=patience), calls, grammar_of)
    elif answer_form is not None and allowed_thinking is not None and not is_own:
        grammar = writer.strict(calls=None, answer=answer_form, thinking=allowed_thinking)
    shown = (*(thinking.marks.texts if thinking else ()), *(calls.form.texts if calls else ()))
    text = without_bos(prompt, info.bos_token, adds_bos=info.add_bos or not is_first)
    parts = control_names(engine.vocabulary).parts(text, stand_ins)
    return Turn(
        prompt=_read(engine, parts, conversation, is_first=is_first, is_counted=is_counted),
        grammar=grammar,
        shown_tokens=writer.control_tokens(*shown),
        thinking=thinking if conversation.splits_thinking else None,
        calls=calls,
    )


def _read(
    engine: AnyEngine, parts: Sequence[TextPart], conversation: Conversation, *, is_first: bool, is_counted: bool
) -> Prompt:
    """Return the prompt that a text in parts is, with the conversation's pictures and sounds."""
    attachments = [file for message in conversation.messages for file in message.attachments]
    if not attachments:
        return Prompt(tokens_of(engine, parts, is_first=is_first, is_counted=is_counted))
    assert is_first, "what follows other tokens can't have pictures"
    return engine.read(parts, attachments, "messages")


def prompt_of(engine: AnyEngine, conversation: Conversation) -> str:
    """Return the prompt alone. Raises RequestError."""
    template = template_in(engine)
    return _prompt(template, profile_of(template), conversation)[0]


def _calls(tool_use: ToolUse, profile: TemplateProfile) -> Calls | None:
    if not tool_use.callable:
        return None
    return Calls(profile.call_form.form if profile.call_form else GENERIC, tool_use.callable, tool_use.is_parallel)


def _prompt(
    template: ChatTemplate, profile: TemplateProfile, conversation: Conversation
) -> tuple[str, ThinkingState | None]:
    """Return the prompt, and what of the answer may be thinking."""
    messages, tools = _for_template(conversation, profile)
    last = messages.pop() if conversation.continues_last else None
    # As llama-server does, let a thinking model think, unless the request forbids it.
    variables = {"enable_thinking": profile.marks.is_known, **conversation.variables}
    if conversation.thinking is not None:
        variables = {**variables, **dict.fromkeys(_THINKING_VARIABLES, conversation.thinking)}
    prompt = template.render(
        messages,
        tools=tools,
        variables=variables,
        adds_generation_prompt=conversation.adds_generation_prompt or last is not None,
        message_format=profile.message_format,
    )
    marks = profile.marks
    thinking = ThinkingState(marks, Stage.BEGUN if prompt.rstrip().endswith(marks.opening) else Stage.POSSIBLE)
    if last is not None:
        return _with_beginning(prompt, last, thinking)
    if thinking.is_begun and conversation.thinking is False:
        return _with_thinking_ended(prompt, marks), ThinkingState(marks, Stage.ENDED)
    return prompt, thinking


def _guarded_prompt(
    engine: AnyEngine, template: ChatTemplate, profile: TemplateProfile, conversation: Conversation
) -> tuple[str, ThinkingState | None, Mapping[str, str]]:
    """Return the prompt and its thinking, with stand-ins for names of control tokens in texts, and whose they are.

    The assistant's texts keep the marks of its own: a client sends back what the model has said.
    """
    prompt, thinking = _prompt(template, profile, conversation)
    if conversation.parses_special:
        return prompt, thinking, {}
    names = control_names(engine.vocabulary)
    kept = names.within((*profile.marks.texts, *(profile.call_form.form.texts if profile.call_form else ())))
    found = names.found_in(conversation, kept)
    stand_ins = stand_ins_for(found, prompt)
    if len(stand_ins) == len(found) > 0:
        characters = {name: character for character, name in stand_ins.items()}
        renamed = names.renamed(conversation, characters.__getitem__, kept)
        guarded, thinking = _prompt(template, profile, renamed)
        if restored(guarded, stand_ins) == prompt:
            return guarded, thinking, stand_ins
    if found:
        prompt, thinking = _prompt(template, profile, names.renamed(conversation, broken, kept))
    return prompt, thinking, {}


def _for_template(conversation: Conversation, profile: TemplateProfile) -> tuple[list[Message], tuple[Tool, ...]]:
    """Return the messages as the template can take them, and the tools that the template is to describe."""
    tools = () if conversation.tool_use.choice is ToolChoice.NONE else conversation.tool_use.tools
    messages = list(conversation.messages)
    learnt = profile.call_form
    if learnt is None:
        messages = with_calls_written_out(messages)
    if tools and not (learnt and learnt.describes_tools):
        messages = with_tools_described(messages, tools, learnt.form if learnt else GENERIC)
    return messages, tools if learnt else ()


def _with_beginning(prompt: str, begun: Message, thinking: ThinkingState) -> tuple[str, ThinkingState | None]:
    """Return the prompt with what the assistant has said so far, which its answer goes on with."""
    if begun.reasoning:
        opening = "" if thinking.is_begun else f"{thinking.marks.opening}\n"
        prompt = f"{prompt}{opening}{begun.reasoning}"
        thinking = ThinkingState(thinking.marks, Stage.BEGUN)
    if not begun.text:
        return prompt, thinking
    if thinking.is_begun:
        prompt = f"{_with_thinking_ended(prompt, thinking.marks)}\n\n"
    return prompt + begun.text, None


def _with_thinking_ended(prompt: str, marks: ThinkingMarks) -> str:
    return f"{prompt.rstrip()}\n{marks.closing}"


def _may_think(thinking: ThinkingState, conversation: Conversation) -> bool:
    """Whether a grammar is to allow for thinking: the prompt speaks of it, or the model is known to think."""
    return thinking.stage is not Stage.POSSIBLE or (thinking.marks.is_known and conversation.thinking is not False)


def _usable(
    compile_: Callable[[Grammar], None], calls: Calls, grammar_of: Callable[[Calls], Grammar]
) -> tuple[Calls, Grammar]:
    """Return the calls with schemas that the engine can hold arguments to, those it can't loosened, and their grammar.

    Raises RequestError for one that asks to be held to strictly.
    """
    try:
        grammar = grammar_of(calls)
        compile_(grammar)
    except RequestError:
        calls = replace(calls, tools=tuple(_usable_tool(compile_, tool) for tool in calls.tools))
        grammar = grammar_of(calls)
        compile_(grammar)
    return calls, grammar


def _usable_tool(compile_: Callable[[Grammar], None], tool: Tool) -> Tool:
    try:
        compile_(Grammar(GrammarKind.LARK, f"start: %json {arguments_schema(tool)}"))
        return tool
    except RequestError as refusal:
        if tool.is_strict:
            raise RequestError(f"the tool {tool.name!r} can't be called strictly: {refusal}", "tools") from refusal
        return loosened(tool)


def _control_token(engine: AnyEngine, mark: str) -> int | None:
    tokens = engine.vocabulary.tokenize(mark, add_special=False, parse_special=True)
    return tokens[0] if len(tokens) == 1 and not engine.vocabulary.piece(tokens[0]) else None

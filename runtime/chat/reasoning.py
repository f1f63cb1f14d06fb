"""Where a model's thinking and its answer begin and end in what it writes, as far as its chat template shows.

A template that writes down the thinking of earlier turns shows the marks around it. Others only take it out of them
again, by the mark that all such models know. A model without either may still write that mark; it costs nothing to look
for it at the beginning of an answer.

Some models begin the answer itself with marks, too (`<|channel|>final<|message|>`): that is what their templates write
between the prompt that asks for an answer, and an answer.
"""

import re
from dataclasses import dataclass, replace
from enum import Enum

from runtime.chat.messages import Message, Role, ToolCall
from runtime.chat.template import ChatTemplate
from runtime.errors import RequestError


@dataclass(frozen=True, slots=True)
class ThinkingMarks:
    """What stands before and after thinking, and before the answer itself.

    `is_known`: the template says that its model thinks.
    """

    opening: str = "<think>"
    closing: str = "</think>"
    is_known: bool = False
    answer_opening: str = ""

    @property
    def first_mark(self) -> str:
        """What an answer's own beginning begins with, and maybe a call's."""
        found = _ANY_MARK.match(self.answer_opening)
        return found[0] if found else ""

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        return (self.opening,), (self.closing,), (self.answer_opening,)


class Stage(Enum):
    """How far an answer's thinking is, where the answer begins."""

    POSSIBLE = "possible"  # the model may begin it
    BEGUN = "begun"  # it must be ended
    ENDED = "ended"  # nothing but white space is between it and the answer


@dataclass(frozen=True, slots=True)
class ThinkingState:
    """Thinking, and how far the prompt has gone with it."""

    marks: ThinkingMarks
    stage: Stage = Stage.POSSIBLE

    @property
    def is_begun(self) -> bool:
        return self.stage is Stage.BEGUN


_USUAL = (ThinkingMarks(), ThinkingMarks("[THINK]", "[/THINK]"))
_USER = Message(Role.USER, "zquser")
_CONTENT, _REASONING = "Ωzqcontent℧", "Ψzqreasoningψ"
_CALL = ToolCall("zqid00001", "zqname", "{}")
_ANSWER = Message(Role.ASSISTANT, _CONTENT)
_PROBES = (
    Message(Role.ASSISTANT, _CONTENT, reasoning=_REASONING),
    Message(Role.ASSISTANT, reasoning=_REASONING, tool_calls=(_CALL,)),
)
# Other marks around thinking are those of any message.
_WORD = "(?:think|thought|reason)"
_LAST_MARK = re.compile(rf"(<[^<>]*{_WORD}[^<>]*>|\[{_WORD}[A-Z_]*\])\s*$", re.IGNORECASE)
_ANY_WORD, _ANY_MARK = re.compile(_WORD, re.IGNORECASE), re.compile(r"<[^<>]+>")
_FIRST_MARK = re.compile(rf"\s*(<[^<>]*{_WORD}[^<>]*>|\[/?{_WORD}[A-Z_]*\])", re.IGNORECASE)


def learn_thinking_marks(template: ChatTemplate) -> ThinkingMarks:
    """Return the marks that a template writes around thinking, or the usual ones."""
    answer_opening = _added(template, _ANSWER).partition(_CONTENT)[0].strip()
    if _ANY_WORD.search(answer_opening) or not _ANY_MARK.search(answer_opening):
        answer_opening = ""
    for probe in _PROBES:
        before, _, after = _written(template, probe).partition(_REASONING)
        opening, closing = _LAST_MARK.search(before), _FIRST_MARK.match(after)
        if opening and closing:
            return ThinkingMarks(opening[1], closing[1], is_known=True, answer_opening=answer_opening)
    if answer_opening:
        before, _, after = _added(template, _PROBES[0]).partition(_REASONING)
        closing_text = after.partition(answer_opening)[0].strip()
        if before.strip() and closing_text:
            return ThinkingMarks(before.strip(), closing_text, is_known=True, answer_opening=answer_opening)
    usual = next((marks for marks in _USUAL if marks.closing in template.source), None)
    if usual is None:
        return ThinkingMarks(answer_opening=answer_opening)
    return replace(usual, is_known=True, answer_opening=answer_opening)


def _added(template: ChatTemplate, message: Message) -> str:
    """Return what a template writes of a message after the prompt that asks for it; empty when it writes otherwise."""
    asked = _written(template, None)
    written = _written(template, message)
    return written[len(asked) :] if asked and written.startswith(asked) else ""


def _written(template: ChatTemplate, message: Message | None) -> str:
    try:
        return template.render(
            [_USER, message] if message else [_USER],
            variables={"enable_thinking": True},
            adds_generation_prompt=message is None,
        )
    except RequestError:
        return ""

"""Where a model's thinking begins and ends in what it writes, as far as its chat template tells.

A template that writes down the thinking of earlier turns shows the marks around it. Others only take it out of them
again, by the mark that all such models know. A model without either may still write that mark; it costs nothing to look
for it at the beginning of an answer.
"""

import re
from dataclasses import dataclass
from enum import Enum

from runtime.chat.messages import Message, Role, ToolCall
from runtime.chat.template import ChatTemplate
from runtime.errors import RequestError


@dataclass(frozen=True, slots=True)
class ThinkingMarks:
    """What stands before and after thinking; `is_known`: the template says that its model thinks."""

    opening: str = "<think>"
    closing: str = "</think>"
    is_known: bool = False

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        return (self.opening,), (self.closing,)


class Stage(Enum):
    """How far an answer's thinking is, where the answer begins."""

    POSSIBLE = "possible"  # the model may begin it
    BEGUN = "begun"  # it must be ended
    ENDED = "ended"  # nothing but white space is between it and the answer


@dataclass(frozen=True, slots=True)
class Thought:
    """Thinking, and how far the prompt has gone with it."""

    marks: ThinkingMarks
    stage: Stage = Stage.POSSIBLE

    @property
    def is_begun(self) -> bool:
        return self.stage is Stage.BEGUN


_USER = Message(Role.USER, "zquser")
_CONTENT, _REASONING = "Ωzqcontent℧", "Ψzqreasoningψ"
_CALL = ToolCall("zqid00001", "zqname", "{}")
_PROBES = (
    Message(Role.ASSISTANT, _CONTENT, reasoning=_REASONING),
    Message(Role.ASSISTANT, reasoning=_REASONING, tool_calls=(_CALL,)),
)
# Other marks around thinking are those of any message.
_WORD = "(?:think|thought|reason)"
_LAST_MARK = re.compile(rf"(<[^<>]*{_WORD}[^<>]*>|\[{_WORD}[A-Z_]*\])\s*$", re.IGNORECASE)
_FIRST_MARK = re.compile(rf"\s*(<[^<>]*{_WORD}[^<>]*>|\[/?{_WORD}[A-Z_]*\])", re.IGNORECASE)


def learn_thinking_marks(template: ChatTemplate) -> ThinkingMarks:
    """Return the marks that a template writes around thinking, or the usual ones."""
    for probe in _PROBES:
        try:
            written = template.render([_USER, probe], adds_generation_prompt=False)
        except RequestError:
            continue
        before, _, after = written.partition(_REASONING)
        opening, closing = _LAST_MARK.search(before), _FIRST_MARK.match(after)
        if opening and closing:
            return ThinkingMarks(opening[1], closing[1], is_known=True)
    usual = ThinkingMarks()
    return ThinkingMarks(is_known=usual.closing in template.source)

"""Where a model's thinking begins and ends in what it writes, as far as its chat template tells.

A template that writes down the thinking of earlier turns shows the marks around it. Others only take it out of them
again, by the mark that all such models know. A model without either may still write that mark; it costs nothing to look
for it at the beginning of an answer.
"""

import re
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Thought:
    """Thinking that may stand before an answer; `is_begun`: the prompt has begun it, so it must be ended."""

    marks: ThinkingMarks
    is_begun: bool = False


_USER = Message(Role.USER, "zquser")
_CONTENT, _REASONING = "Ωzqcontent℧", "Ψzqreasoningψ"
_CALL = ToolCall("zqid00001", "zqname", "{}")
_PROBES = (
    Message(Role.ASSISTANT, _CONTENT, reasoning=_REASONING),
    Message(Role.ASSISTANT, _CONTENT, reasoning=_REASONING, tool_calls=(_CALL,)),
)
_LAST_MARK = re.compile(r"(<[^<>]+>|\[[A-Z_]+\])\s*$")
_FIRST_MARK = re.compile(r"\s*(<[^<>]+>|\[/?[A-Z_]+\])")


def learn_thinking_marks(template: ChatTemplate) -> ThinkingMarks:
    """Return the marks that a template writes around thinking, or the usual ones."""
    for probe in _PROBES:
        try:
            written = template.render([_USER, probe], adds_generation_prompt=False)
        except RequestError:
            continue
        before, _, after = written.partition(_REASONING)
        opening, closing = _LAST_MARK.search(before), _FIRST_MARK.match(after)
        if opening and closing and _CONTENT in after:
            return ThinkingMarks(opening[1], closing[1], is_known=True)
    usual = ThinkingMarks()
    return ThinkingMarks(is_known=usual.closing in template.source)

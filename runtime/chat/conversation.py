"""What is asked of a chat: the messages so far, the tools that may be called, and how to answer. Values only.

Every dialect reads its own JSON into a `Conversation`; nothing below knows whose it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runtime.chat.messages import Message


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask to be called; `parameters` is the JSON schema of its arguments.

    `is_strict`: a schema that can't be held to the letter is refused. Otherwise as much of it holds as can.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_strict: bool = False


class ToolChoice(Enum):
    """Whether the answer calls tools."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools that are described to the model, and what it may do with them.

    `allowed` are the names of those that may be called, None all of them; naming one and requiring a call is how
    dialects ask for a certain tool.
    """

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice.AUTO
    allowed: frozenset[str] | None = None
    is_parallel: bool = True

    @property
    def callable(self) -> tuple[Tool, ...]:
        if self.choice is ToolChoice.NONE:
            return ()
        return tuple(tool for tool in self.tools if self.allowed is None or tool.name in self.allowed)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, and how the assistant is to go on.

    `thinking` None leaves it to the template; thinking is separated from the answer if `splits_thinking`,
    otherwise it is part of the text, marks and all. `variables` are more words for the template, by their names.
    `parses_special`: names of control tokens in texts are those tokens, which only whoever writes all texts can want.
    `continues_last`: the last message is the assistant's and unfinished; the answer is its rest.
    """

    messages: tuple[Message, ...]
    tool_use: ToolUse = field(default_factory=ToolUse)
    thinking: bool | None = None
    splits_thinking: bool = True
    variables: Mapping[str, Any] = field(default_factory=dict)
    continues_last: bool = False
    adds_generation_prompt: bool = True
    parses_special: bool = False

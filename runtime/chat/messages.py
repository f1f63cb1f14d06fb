"""What a conversation is made of, as the chat template sees it. Values only."""

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """Who speaks; the values are the words that templates compare with."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made; `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `reasoning` and `tool_calls` are the assistant's; a tool's message says to which call (`tool_call_id`) of which tool
    (`name`, empty when the call names it) it is the result. `attachments` are pictures and sounds as files; where each
    belongs in the text there is a `media.MARK`.
    """

    role: Role
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    attachments: tuple[bytes, ...] = ()

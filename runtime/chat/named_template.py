"""One of llama.cpp's own chat templates, used by its name.

They know roles and texts. So tools are described and calls are written in the generic form, as for any template without
them, and there are no variables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runtime.chat.conversation import Tool
from runtime.chat.messages import Message
from runtime.chat.template import MessageFormat

_ANY_FORMAT = MessageFormat()


class WriteMessages(Protocol):
    """Makes the prompt; the engine's part."""

    def __call__(self, template: str, messages: Sequence[tuple[str, str]], *, adds_generation_prompt: bool) -> str:
        """Return the prompt of (role, text) pairs. Raises RequestError."""


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """A name, and who writes by it."""

    source: str
    write: WriteMessages

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        variables: Mapping[str, Any] | None = None,
        adds_generation_prompt: bool = True,
        message_format: MessageFormat = _ANY_FORMAT,
    ) -> str:
        """Return the prompt, as `ChatTemplate` has it; only roles and texts are in it."""
        pairs = [(message.role.value, message.text) for message in messages]
        return self.write(self.source, pairs, adds_generation_prompt=adds_generation_prompt)

"""A conversation to the tokens that an engine goes on from, for dialects that read nothing but text out of answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.chat.conversation import Conversation
from runtime.chat.messages import Message, Role
from runtime.chat.turn import next_turn

if TYPE_CHECKING:
    from runtime.engine.engine import Engine


def chat_tokens(engine: "Engine", messages: Sequence[Message], *, is_first: bool = True) -> tuple[int, ...]:
    """Return the prompt that asks for the assistant's next message, or for the rest of a last one that is begun.

    Not `is_first`: it follows other tokens. Raises RequestError. Takes long.
    """
    is_begun = len(messages) > 1 and messages[-1].role is Role.ASSISTANT
    conversation = Conversation(tuple(messages), continues_last=is_begun)
    return next_turn(engine, conversation, is_first=is_first).prompt_tokens

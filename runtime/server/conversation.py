"""A conversation to the tokens that an engine goes on from, with the template of its model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.chat.messages import Message, Role
from runtime.chat.template import load_template, without_bos

if TYPE_CHECKING:
    from runtime.engine.engine import Engine


def chat_tokens(engine: "Engine", messages: Sequence[Message], *, is_first: bool = True) -> tuple[int, ...]:
    """Return the prompt that asks for the assistant's next message, or for the rest of a last one that is begun.

    Not `is_first`: it follows other tokens. Raises RequestError. Takes long.
    """
    info = engine.info
    template = load_template(info.chat_template, info.bos_token, info.eos_token)
    if len(messages) > 1 and messages[-1].role is Role.ASSISTANT:
        prompt = template.render(messages[:-1]) + messages[-1].text
    else:
        prompt = template.render(messages)
    prompt = without_bos(prompt, info.bos_token, adds_bos=info.add_bos or not is_first)
    return tuple(engine.tokenize(prompt, add_special=is_first, parse_special=True))

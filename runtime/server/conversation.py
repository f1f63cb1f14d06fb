"""A conversation to the tokens that an engine goes on from, with the template of its model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.chat.messages import Message
from runtime.chat.template import load_template, without_bos

if TYPE_CHECKING:
    from runtime.engine.engine import Engine


def chat_tokens(engine: "Engine", messages: Sequence[Message], *, is_first: bool = True) -> tuple[int, ...]:
    """Return the prompt that asks for the assistant's next message; not `is_first`: it follows other tokens.

    Raises RequestError. Takes long.
    """
    info = engine.info
    prompt = load_template(info.chat_template, info.bos_token, info.eos_token).render(messages)
    prompt = without_bos(prompt, info.bos_token, adds_bos=info.add_bos or not is_first)
    return tuple(engine.tokenize(prompt, add_special=is_first, parse_special=True))

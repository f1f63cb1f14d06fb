"""A conversation that is too long for the context, less its oldest turns. Pure."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

from runtime.chat.messages import Message, Role


def shortened(
    messages: Sequence[Message], fits: Callable[[tuple[Message, ...]], bool], *, most: float = math.inf
) -> tuple[Message, ...]:
    """Return the longest end of a conversation that fits; the shortest there is when none does.

    Ends of more than `most` messages are known not to fit, and aren't tried.

    Ends begin with a user's message: few templates write an answer without its question, or a tool's result without
    its call. What the system says stays, wherever it stands.
    """
    heads = [index for index, message in enumerate(messages) if message.role is Role.USER][1:]
    starts = [0, *heads]
    starts = [start for start in starts if len(messages) - start <= most] or starts[-1:]
    first_that_fits = bisect_left(starts, True, key=lambda start: fits(_end(messages, start)))
    return _end(messages, starts[min(first_that_fits, len(starts) - 1)])


def _end(messages: Sequence[Message], head: int) -> tuple[Message, ...]:
    return (*(message for message in messages[:head] if message.role is Role.SYSTEM), *messages[head:])

"""What comes before a request can be submitted, for no longer than its client waits.

Rendering and tokenizing take milliseconds; grammars, which clients write, may take seconds. So they are compiled by
threads of their own: no other request ever waits for one of these, nor does one whose grammar is compiled already, and
a grammar that takes long makes way after a second for those that don't.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from runtime.chat.conversation import Conversation
from runtime.chat.turn import Turn, next_turn
from runtime.engine.interface import AnyEngine
from runtime.engine.values.grammar import Grammar
from runtime.errors import RequestError
from runtime.nursery import NoTimeLeft, Patience
from runtime.server.answering.awaited import while_connected
from runtime.server.asking.threads import in_thread

T = TypeVar("T")

# Where a request's grammars are compiled, and for how many seconds, all of them together; then on to the next.
_STAGES = (
    (ThreadPoolExecutor(2, thread_name_prefix="compiling"), 1.0),
    (ThreadPoolExecutor(2, thread_name_prefix="compiling long"), 30.0),
)


async def turn_for(
    request: Request,
    engine: AnyEngine,
    conversation: Conversation,
    answer_form: Grammar | None = None,
    *,
    size: int,
    is_counted: bool = False,
) -> Turn:
    """Return the turn that goes on with a conversation. Raises what `next_turn` raises, and ClientDisconnect."""
    work = partial(next_turn, engine, conversation, answer_form, is_counted=is_counted)
    return await prepared(request, work, size=size)


async def prepared(request: Request, work: Callable[..., T], *, size: int = 0) -> T:
    """Return what `work` returns, done by a thread, which calls it with a `patience`, from the beginning each time.

    `size` is how large what it works on is.

    Raises RequestError when it takes longer than any may, and ClientDisconnect, which ends the work, when the client
    leaves. The request's body must have been read.
    """
    with contextlib.suppress(NoTimeLeft):  # nearly all have nothing to compile, or what is compiled already
        return await in_thread(size, work, patience=Patience(0.0))
    return await while_connected(request.receive, _in_stages(work))


async def _in_stages(work: Callable[..., T]) -> T:
    for threads, seconds in _STAGES:
        patience = Patience(seconds)
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, partial(work, patience=patience))
        except NoTimeLeft:
            continue
        finally:
            patience.leave()
    raise RequestError(f"compiling its grammars takes more than {_STAGES[-1][1]:.0f} s; send fewer or simpler tools")

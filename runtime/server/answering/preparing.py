"""What comes before a request can be submitted, for no longer than its client waits.

Rendering and tokenizing take milliseconds; grammars, which clients write, may take seconds. So they are compiled by
threads of their own: no other request ever waits for one of these, nor does one whose grammar is compiled already.
"""

import asyncio
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

T = TypeVar("T")

_NUM_COMPILING = 4
_MAX_SECONDS = 30.0  # for all grammars of one request together
_compiling = ThreadPoolExecutor(_NUM_COMPILING, thread_name_prefix="compiling")


async def turn_for(
    request: Request, engine: AnyEngine, conversation: Conversation, answer_form: Grammar | None = None
) -> Turn:
    """Return the turn that goes on with a conversation. Raises what `next_turn` raises, and ClientDisconnect."""
    work = partial(next_turn, engine, conversation, answer_form)
    return await prepared(request, work)


async def prepared(request: Request, work: Callable[..., T]) -> T:
    """Return what `work` returns, done by a thread, which calls it with a `patience`: at first with none.

    Raises ClientDisconnect, and ends the work, when the client leaves. The request's body must have been read.
    """
    try:
        return await asyncio.to_thread(work, patience=Patience(0.0))
    except NoTimeLeft:
        return await while_connected(request.receive, _with_patience(work))


async def _with_patience(work: Callable[..., T]) -> T:
    patience = Patience(_MAX_SECONDS)
    try:
        return await asyncio.get_running_loop().run_in_executor(_compiling, partial(work, patience=patience))
    except NoTimeLeft:
        raise RequestError(
            f"compiling the tools and grammars takes more than {_MAX_SECONDS:.0f} s; send fewer"
        ) from None
    finally:
        patience.leave()

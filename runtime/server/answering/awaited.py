"""Waiting for the engine, for no longer than the client does."""

import asyncio
from collections.abc import Awaitable
from typing import Generic, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


class Awaited(Generic[T]):
    """An outcome that comes by callback: `hear` is the callback, `result` waits for it. Event loop thread only."""

    def __init__(self) -> None:
        self._outcome: asyncio.Future[T | Exception] = asyncio.get_running_loop().create_future()

    def hear(self, outcome: T | Exception) -> None:
        if not self._outcome.done():  # the client may have left before
            self._outcome.set_result(outcome)

    async def result(self, receive: Receive) -> T:
        """Return the outcome, or raise it when it is an error. Raises ClientDisconnect once the client is gone."""
        outcome = await while_connected(receive, self._outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Return what `work` returns; cancel it and raise ClientDisconnect as soon as the client is gone.

    The request's body must have been read: what `receive` brings then is the disconnect.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""The store of chats, from the event loop: on a thread of its own, opened when it is first asked for.

A program that only serves its API never opens it, and makes no file.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from runtime.errors import HistoryError

if TYPE_CHECKING:
    from runtime.store.store import ChatStore

T = TypeVar("T")


class History:
    """Chats that are kept. A store that couldn't be opened isn't tried again: every call raises HistoryError."""

    def __init__(self, open_store: "Callable[[], ChatStore]") -> None:
        """`open_store` is called once, on the store's thread."""
        self._open_store = open_store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")  # starts its thread with the first call
        # These two belong to the store's thread.
        self._store: ChatStore | None = None
        self._failure: str | None = None

    async def run(self, work: "Callable[[ChatStore], T]") -> T:
        """Return what `work` makes of the store, called in the order of the calls. Raises HistoryError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    async def problem(self) -> str | None:
        """Return why no chats are kept, None when they are."""
        try:
            await self.run(lambda _store: None)
        except HistoryError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Let the call that is running end and close the file; those that wait are dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._store is not None:
            self._store.close()

    def _do(self, work: "Callable[[ChatStore], T]") -> T:
        if self._failure is not None:
            raise HistoryError(self._failure)
        if self._store is None:
            try:
                self._store = self._open_store()
            except HistoryError as error:
                self._failure = str(error)
                raise
        return work(self._store)

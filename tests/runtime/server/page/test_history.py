import asyncio
import threading
from pathlib import Path

import pytest

from runtime.errors import HistoryError
from runtime.server.page.history import History
from runtime.store.store import ChatStore
from tests.runtime.store.chats import chat


def test_the_file_is_made_when_it_is_first_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "tiny.chats"
    history = History(lambda: ChatStore(path))
    history.close()
    assert not path.exists()
    history = History(lambda: ChatStore(path))
    assert asyncio.run(history.problem()) is None
    assert path.exists()
    history.close()


def test_calls_run_one_after_the_other_on_a_thread_of_their_own(tmp_path: Path) -> None:
    threads: list[str] = []
    order: list[int] = []

    async def calls() -> None:
        history = History(lambda: ChatStore(tmp_path / "tiny.chats"))

        def work(number: int) -> None:
            threads.append(threading.current_thread().name)
            order.append(number)

        await asyncio.gather(*(history.run(lambda _store, number=number: work(number)) for number in range(20)))
        history.close()

    asyncio.run(calls())
    assert order == list(range(20))
    assert set(threads) == {"store_0"}


def test_what_is_being_written_is_finished_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "tiny.chats"

    async def leave_early() -> None:
        history = History(lambda: ChatStore(path))
        writing = asyncio.ensure_future(history.run(lambda store: store.put_chat(chat("c1"))))
        await asyncio.sleep(0)  # the call is with the thread
        while not writing.done() and not path.exists():
            await asyncio.sleep(0)
        history.close()

    asyncio.run(leave_early())
    store = ChatStore(path)
    assert store.ids() == ["c1"]
    store.close()


def test_a_store_that_cannot_be_opened_is_tried_once() -> None:
    tries = []

    def fail() -> ChatStore:
        tries.append(1)
        raise HistoryError("no room")

    async def ask() -> None:
        history = History(fail)
        assert await history.problem() == "no room"
        with pytest.raises(HistoryError, match="no room"):
            await history.run(lambda store: store.ids())
        history.close()

    asyncio.run(ask())
    assert tries == [1]

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from runtime.errors import EngineError
from runtime.server.answering.awaited import Awaited


async def _stay() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def _leave() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def test_what_the_callback_hears_is_returned_and_an_error_is_raised() -> None:
    async def heard(outcome: int | Exception) -> int:
        answer = Awaited[int]()
        asyncio.get_running_loop().call_soon(answer.hear, outcome)
        return await answer.result(_stay)

    assert asyncio.run(heard(5)) == 5
    with pytest.raises(EngineError, match="broken"):
        asyncio.run(heard(EngineError("broken")))


def test_a_client_that_leaves_ends_the_wait_and_a_late_outcome_concerns_nobody() -> None:
    async def leave() -> None:
        answer = Awaited[int]()
        with pytest.raises(ClientDisconnect):
            await answer.result(_leave)
        answer.hear(5)

    asyncio.run(leave())

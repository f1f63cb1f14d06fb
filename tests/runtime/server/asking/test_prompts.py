import asyncio

import pytest

from runtime.server.asking.prompts import tokenize_prompts
from tests.fakes import ScriptedEngine


@pytest.mark.parametrize("num_chars", [10, 10_000])  # without a thread, and in one
def test_others_have_their_turn_between_many_prompts(num_chars: int) -> None:
    async def count_turns() -> tuple[int, list[tuple[int, ...]]]:
        num_turns, is_done = 0, False

        async def other() -> None:
            nonlocal num_turns
            while not is_done:
                num_turns += 1
                await asyncio.sleep(0)

        waiting = asyncio.create_task(other())
        prompts = await tokenize_prompts(ScriptedEngine(), ["x" * num_chars] * 50)
        is_done = True
        await waiting
        return num_turns, prompts

    num_turns, prompts = asyncio.run(count_turns())
    assert num_turns >= 50
    assert prompts == [(ord("x"),) * num_chars] * 50

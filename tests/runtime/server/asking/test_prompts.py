import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.errors import PromptTooLong, RequestError
from runtime.server.asking.prompts import tokenize_prompt, tokenize_prompts
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


def tokenized(value: object, **engine: Any) -> list[tuple[int, ...]]:
    return asyncio.run(tokenize_prompts(ScriptedEngine(**engine), value))


def test_a_prompt_is_not_tokenized_beyond_the_context() -> None:
    engine = ScriptedEngine(n_ctx=100)
    with pytest.raises(PromptTooLong, match="at least 50000 tokens") as refusal:
        asyncio.run(tokenize_prompt(engine, "x" * 50_000))
    assert (refusal.value.num_prompt_tokens, refusal.value.n_ctx) == (50_000, 100)
    assert engine.vocabulary.most_asked == 100


def test_very_many_token_ids_are_refused_before_each_is_looked_at() -> None:
    class Counted(list[object]):
        num_seen = 0

        def __iter__(self) -> Iterator[object]:
            for each in super().__iter__():
                self.num_seen += 1
                yield each

    ids = Counted([7] * 5000)
    with pytest.raises(PromptTooLong, match="prompt of 5000 tokens"):
        asyncio.run(tokenize_prompt(ScriptedEngine(n_ctx=100), ids))
    assert ids.num_seen < 10


def test_a_mixed_prompt_is_not_tokenized_to_its_end_either() -> None:
    engine = ScriptedEngine(n_ctx=100)
    with pytest.raises(PromptTooLong):
        asyncio.run(tokenize_prompt(engine, [7, "x" * 5000] * 500))
    assert engine.vocabulary.num_texts < 10


def test_the_prompts_of_a_request_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.server.asking.prompts.MAX_TEXT_TOKENS", 1000)
    assert len(tokenized(["x" * 60] * 16)) == 16
    with pytest.raises(RequestError, match="more than 1,000 tokens in all"):
        tokenized(["x" * 60] * 17)

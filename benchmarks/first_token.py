"""How long until the first token, and how evenly the others come.

    .venv/bin/python benchmarks/first_token.py dist/SmolLM2-135M-Instruct --peer PATH/TO/llama-server

Milliseconds to the first token of a prompt of about 1,500 tokens that was never seen, of those that begin like it (the
median of eleven, each after a rest), and until the last of eight such that came together has its first; and the longest
gap between two tokens of four requests that generate while a prompt of 1,500 tokens arrives.
"""

import asyncio
import random
import statistics
import time
from itertools import pairwise

import httpx
from peers import Server, generate, in_turn, parse, running, servers

NUM_WORDS = 1450
NUM_WARM = 11
WORDS = ("the", "lamp", "of", "a", "house", "by", "sea", "was", "lit", "each", "evening", "and", "nobody", "knew")


def long_prompt() -> str:
    return " ".join(random.choices(WORDS, k=NUM_WORDS))


async def first_token(client: httpx.AsyncClient, url: str, prompt: str) -> float:
    started = time.monotonic()
    times = await generate(client, url, prompt, 8, cache_prompt=True)
    return times[0] - started


async def prefixes(url: str) -> dict[str, float]:
    async with httpx.AsyncClient() as client:
        beginning = long_prompt()
        cold = await first_token(client, url, f"{beginning} first")
        warm = []
        for number in range(NUM_WARM):
            await asyncio.sleep(0.1)
            warm.append(await first_token(client, url, f"{beginning} {number}"))
        beginning = long_prompt()
        started = time.monotonic()
        together = [generate(client, url, f"{beginning} {number}", 8, cache_prompt=True) for number in range(8)]
        last = max(times[0] for times in await asyncio.gather(*together)) - started
        return {
            "cold, ms": 1000 * cold,
            "warm, ms": 1000 * statistics.median(warm),
            "eight alike together, ms": 1000 * last,
        }


async def worst_gap(url: str) -> float:
    async with httpx.AsyncClient() as client:
        streams = [asyncio.create_task(generate(client, url, f"Story {number}:", 160)) for number in range(4)]
        await asyncio.sleep(1)
        await generate(client, url, long_prompt(), 8)
        gaps = [later - earlier for times in await asyncio.gather(*streams) for earlier, later in pairwise(times)]
        return 1000 * max(gaps)


def measure(server: Server) -> dict[str, float]:
    with running(server) as (url, _process):
        asyncio.run(worst_gap(url))  # the first requests pay for what is set up once
        return asyncio.run(prefixes(url)) | {"worst gap, ms": asyncio.run(worst_gap(url))}


if __name__ == "__main__":
    chosen = parse(__doc__).parse_args()
    with servers(chosen.bundle, chosen.peer) as found:
        in_turn(found, chosen.rounds, measure)

"""One request of about 300 tokens in and 48 out while the computer does something else.

    .venv/bin/python benchmarks/busy.py dist/SmolLM2-135M-Instruct --peer PATH/TO/llama-server

Beside nothing, beside one busy process, beside one for each processor, and right after these have ended. The figures
are generated tokens by the seconds of the whole request, the prompt's included; "after" is a stream that began under
load, its tokens in the second after the load ended, beginning 0.2 s after.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from peers import Server, generate, in_turn, parse, running, servers

NUM_TOKENS = 48
WORDS = (
    "the",
    "lamp",
    "of",
    "a",
    "house",
    "by",
    "sea",
    "was",
    "lit",
    "each",
    "evening",
    "and",
    "nobody",
    "knew",
    "why",
)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=30)


def prompt() -> str:
    return "Go on with this text: " + " ".join(random.choices(WORDS, k=290))


async def tokens_per_second(url: str) -> float:
    async with httpx.AsyncClient() as client:
        started = time.monotonic()
        await generate(client, url, prompt(), NUM_TOKENS)
        return NUM_TOKENS / (time.monotonic() - started)


async def after_load(url: str, num_busy: int) -> float:
    async with httpx.AsyncClient() as client:
        with busy_processes(num_busy):
            stream = asyncio.create_task(generate(client, url, "Once upon a time", 300))
            await asyncio.sleep(0.5)
        ended = time.monotonic()
        times = await stream
    return float(sum(ended + 0.2 <= moment < ended + 1.2 for moment in times))


def measure(server: Server) -> dict[str, float]:
    num_cpus = len(os.sched_getaffinity(0))
    figures = {}
    with running(server) as (url, _process):
        asyncio.run(tokens_per_second(url))  # the first request pays for what is set up once
        for num_busy in (0, 1, num_cpus):
            with busy_processes(num_busy):
                figures[f"{num_busy} busy, tokens/s"] = asyncio.run(tokens_per_second(url))
        figures["after, tokens/s"] = asyncio.run(after_load(url, num_cpus))
    return figures


if __name__ == "__main__":
    chosen = parse(__doc__).parse_args()
    with servers(chosen.bundle, chosen.peer) as found:
        in_turn(found, chosen.rounds, measure)

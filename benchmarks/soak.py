"""Ten thousand requests of random length, a third of which are given up half way: nothing may be left of them.

    .venv/bin/python benchmarks/soak.py dist/SmolLM2-135M-Instruct --model path/to/tiny.gguf

A tiny model (`--model`, by default the bundle's own) makes it a matter of minutes. Compared before and after: the
answer to a fixed prompt, resident memory, threads, open files, and that no request is running any more.
"""

import argparse
import asyncio
import random
import time
from pathlib import Path

import httpx
from peers import Server, running

NUM_CLIENTS = 24
WORDS = ("the", "lamp", "of", "a", "house", "by", "sea", "was", "lit", "each", "evening")


async def one_request(client: httpx.AsyncClient, url: str, chance: random.Random) -> None:
    prompt = " ".join(chance.choices(WORDS, k=chance.randint(1, 120)))
    body = {"prompt": prompt, "n_predict": chance.randint(0, 40), "stream": True, "seed": chance.randint(0, 99)}
    leaves_after = chance.choice((None, None, chance.randint(0, 8)))
    async with client.stream("POST", f"{url}/completion", json=body, timeout=300) as answer:
        if answer.status_code != 200:
            raise SystemExit(f"a request was answered with {answer.status_code}: {await answer.aread()!r}")
        count = 0
        async for line in answer.aiter_lines():
            count += bool(line)
            if leaves_after is not None and count > leaves_after:
                return  # closing the connection is how a client goes away


async def work(url: str, num_requests: int, seed: int) -> None:
    chance = random.Random(seed)
    async with httpx.AsyncClient() as client:
        for _ in range(num_requests):
            await one_request(client, url, chance)


async def all_work(url: str, num_requests: int) -> None:
    await asyncio.gather(*(work(url, num_requests // NUM_CLIENTS, seed) for seed in range(NUM_CLIENTS)))


def fixed_answer(url: str) -> str:
    body = {"prompt": "Once upon a time", "n_predict": 60, "temperature": 0, "cache_prompt": False}
    text: str = httpx.post(f"{url}/completion", json=body, timeout=300).json()["content"]
    return text


def state_of(pid: int) -> dict[str, int]:
    worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    folder = Path("/proc", worker[0] if worker else str(pid))
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return {
        "resident kB": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "open files": len(list((folder / "fd").iterdir())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    chosen = parser.parse_args()
    # Parked conversations fill the memory that they may have; with little of that, what is left beside them shows.
    command = [str(chosen.bundle.resolve()), "--server", "--nobrowser", "-c", "1024", "--cache-ram", "16"]
    command += ["-m", str(chosen.model)] if chosen.model else []
    with running(Server("holdall", command)) as (url, process):
        asyncio.run(all_work(url, 10 * NUM_CLIENTS))  # what is set up once is no leak
        answer, before = fixed_answer(url), state_of(process.pid)
        started = time.monotonic()
        asyncio.run(all_work(url, chosen.requests))
        seconds = time.monotonic() - started
        answer_after = fixed_answer(url)
        after = state_of(process.pid)
        is_busy = httpx.get(f"{url}/props", timeout=60).json()["default_generation_settings"]["is_processing"]
    print(f"{chosen.requests} requests in {seconds:.0f} s")
    for name in before:
        print(f"{name:<14}{before[name]:>10}{after[name]:>10}")
    print(f"same answer: {answer == answer_after}; still processing: {is_busy}")


if __name__ == "__main__":
    main()

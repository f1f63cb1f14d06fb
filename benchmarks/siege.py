"""Hostile clients and good ones at once, for as long as is asked for: every good request must be answered rightly.

    .venv/bin/python benchmarks/siege.py dist/SmolLM2-135M-Instruct --model path/to/tiny.gguf --minutes 60

Good clients ask in all dialects for answers that are known from a quiet beginning. Hostile ones send requests that are
broken at random, heads and bodies a byte at a time, lists and grammars that cost as much as may be, read nothing of
what they asked for, and vanish. Told at the end: what was sent, wrong answers, how long the good ones waited, and the
server's memory, threads and open files before and after.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from peers import Server, running
from soak import state_of

SECONDS_TO_REST = 60
MESSAGES = [{"role": "user", "content": "Tell me of a lamp."}]
GREEDY = {"temperature": 0, "seed": 1}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 99, "minimum": 0}}, "required": ["a"]}
GOOD: dict[str, dict[str, Any]] = {
    "/completion": {"prompt": "Once upon a time", "n_predict": 2, **GREEDY},
    "/v1/completions": {"prompt": "There was a house", "max_tokens": 4, **GREEDY},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4, **GREEDY},
    "/v1/responses": {"input": "Tell me of the sea.", "max_output_tokens": 16, "temperature": 0},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 4, "temperature": 0},
    "/api/chat": {"messages": MESSAGES, "stream": False, "options": {"num_predict": 4, "temperature": 0}},
    "/api/generate": {"prompt": "A", "raw": True, "stream": False, "options": {"num_predict": 4, "temperature": 0}},
    "/infill": {"input_prefix": "a", "input_suffix": "b", "n_predict": 2, **GREEDY},
    "/tokenize": {"content": "the lamp of a house by the sea"},
    "/detokenize": {"tokens": [5, 6, 7, 8]},
    "/v1/embeddings": {"input": "the sea"},
    "/completion?json": {"prompt": "A number:", "n_predict": 12, "json_schema": SCHEMA, **GREEDY},
}
# What tells of the moment, not of what was asked.
VOLATILE = {
    *("id", "created", "created_at", "completed_at", "timings", "total_duration", "load_duration", "id_slot"),
    *("prompt_eval_duration", "eval_duration", "tokens_cached", "tokens_evaluated", "usage", "prompt_eval_count"),
    *("prompt_tokens_details", "input_tokens_details", "cached_tokens"),
}
# Each costs as much as one request may, and some are refused.
DEAR: list[tuple[str, Any]] = [
    ("/completion", {"prompt": "a", "n_predict": 9, "json_schema": {"type": "integer", "multipleOf": 99999989}}),
    ("/completion", {"prompt": "a", "n_predict": 9, "samplers": "e" * 1500, "repeat_last_n": 1048576}),
    ("/completion", {"prompt": "a", "n_predict": 9, "logit_bias": [[5, 1]] * 10_000}),
    ("/completion", {"prompt": "a", "n_predict": 50, "n_probs": 1000}),
    ("/completion", {"prompt": "a", "n_predict": 30, "n_cmpl": 64}),
    ("/completion", {"prompt": "a " * 200_000, "n_predict": 9}),
    ("/completion", {"prompt": "a", "n_predict": 9, "stop": ["zz"] * 100_000}),
    ("/completion", {"prompt": "a", "dry_multiplier": 1, "dry_sequence_breakers": [f"b{i}" for i in range(300)]}),
    ("/completion", {"prompt": "a", "n_predict": 60, "xtc_probability": 1, "xtc_threshold": 0, "n_probs": 1}),
    ("/completion", {"prompt": "a", "n_predict": 9, "grammar": "root ::= root root | [a-z]"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}] * 20_000}),
    ("/v1/chat/completions", {"messages": MESSAGES, "n": 32, "max_tokens": 50}),
    ("/v1/embeddings", {"input": ["the sea"] * 200}),
    ("/tokenize", {"content": "word " * 300_000, "with_pieces": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "unknown": [[]] * 300_000}),
]


@dataclass
class Tally:
    """What has been sent so far, and what came of the good requests."""

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Siege:
    """One server and how long it is besieged."""

    url: str
    until: float
    tally: Tally
    expected: dict[str, Any]

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self.until

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        return await asyncio.open_connection(parts.hostname, parts.port)


def essence(answer: Any) -> Any:
    """Return an answer without what differs from one moment to the next."""
    if isinstance(answer, dict):
        return {name: essence(value) for name, value in answer.items() if name not in VOLATILE}
    if isinstance(answer, list):
        return [essence(value) for value in answer]
    return round(answer, 3) if isinstance(answer, float) else answer


async def ask(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.post(path.split("?", maxsplit=1)[0], json=GOOD[path])
    return answer.status_code, essence(answer.json())


# -- good clients -----------------------------------------------------------------------------------------------------


async def be_good(siege: Siege, chance: random.Random) -> None:
    async with httpx.AsyncClient(base_url=siege.url, timeout=120) as client:
        while siege.is_on:
            path = chance.choice(list(GOOD))
            began = time.monotonic()
            try:
                answer = await ask(client, path)
            except httpx.HTTPError as error:
                siege.tally.wrong.append(f"{path}: {error!r}")
                continue
            siege.tally.sent["good"] += 1
            siege.tally.seconds.append(time.monotonic() - began)
            if answer != siege.expected[path]:
                siege.tally.wrong.append(f"{path}: {json.dumps(answer)[:600]}")
            await asyncio.sleep(chance.expovariate(0.5))


# -- hostile ones -----------------------------------------------------------------------------------------------------


def as_bytes(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def broken(chance: random.Random) -> bytes:
    """Return a good request that something is wrong with."""
    path = chance.choice(list(GOOD)).split("?")[0]
    whole = bytearray(as_bytes(path, json.dumps(GOOD[path]).encode()))
    match chance.randrange(6):
        case 0:
            for _ in range(chance.randint(1, 8)):
                whole[chance.randrange(len(whole))] = chance.randrange(256)
        case 1:
            del whole[chance.randrange(len(whole)) :]
        case 2:
            place = chance.randrange(len(whole))
            whole[place:place] = chance.randbytes(chance.randint(1, 300))
        case 3:
            odd = chance.choice(["-1", "1e999", "99999999999999999999", '"\\ud800"', "[]", "{}", "null", "NaN", '""'])
            name = chance.choice(list(GOOD[path]))
            body = json.dumps({**GOOD[path], name: None}).replace(f'"{name}": null', f'"{name}": {odd}')
            whole = bytearray(as_bytes(path, body.encode()))
        case 4:
            whole = bytearray(as_bytes(path, b"[" * chance.randint(1, 100_000)))
        case 5:
            whole = bytearray(chance.randbytes(chance.randint(1, 4000)))
    return bytes(whole)


async def send_broken(siege: Siege, chance: random.Random) -> None:
    reader, writer = await siege.connect()
    siege.tally.sent["broken"] += 1
    try:
        writer.write(broken(chance))
        writer.write_eof()
        status = await asyncio.wait_for(reader.read(12), 30)
        siege.tally.statuses[status[9:12].decode("latin-1") or "closed"] += 1
    finally:
        writer.close()


async def send_a_byte_at_a_time(siege: Siege, chance: random.Random) -> None:
    _reader, writer = await siege.connect()
    siege.tally.sent["slow heads and bodies"] += 1
    try:
        whole = as_bytes("/completion", json.dumps(GOOD["/completion"]).encode() * chance.choice((1, 50)))
        for place in range(len(whole)):
            writer.write(whole[place : place + 1])
            await writer.drain()
            await asyncio.sleep(chance.random() * 2)
            if not siege.is_on:
                break
    finally:
        writer.close()


async def read_nothing(siege: Siege, chance: random.Random) -> None:
    _reader, writer = await siege.connect()
    siege.tally.sent["readers of nothing"] += 1
    try:
        asked = {"prompt": "a", "n_predict": 400, "stream": True, "n_probs": 10, "ignore_eos": True}
        for _ in range(chance.choice((1, 1, 200))):
            writer.write(as_bytes("/completion", json.dumps(asked).encode()))
        await asyncio.sleep(chance.random() * 60)
    finally:
        writer.close()


async def vanish(siege: Siege, chance: random.Random) -> None:
    reader, writer = await siege.connect()
    siege.tally.sent["vanishing"] += 1
    try:
        asked = {"prompt": "a b c", "n_predict": 100, "stream": chance.random() < 0.5}
        writer.write(as_bytes("/completion", json.dumps(asked).encode()))
        if chance.random() < 0.5:
            await asyncio.wait_for(reader.read(chance.randint(1, 2000)), 30)
    finally:
        writer.transport.abort()


async def be_dear(siege: Siege, chance: random.Random) -> None:
    reader, writer = await siege.connect()
    siege.tally.sent["dear"] += 1
    try:
        path, body = chance.choice(DEAR)
        writer.write(as_bytes(path, json.dumps(body).encode(), "connection: close\r\n"))
        await asyncio.wait_for(reader.read(), 120)
    finally:
        writer.close()


async def again(
    siege: Siege,
    once: Callable[[Siege, random.Random], Awaitable[None]],
    chance: random.Random,
    mean_seconds_between: float,
) -> None:
    while siege.is_on:
        with contextlib.suppress(OSError, TimeoutError):
            await once(siege, chance)
        await asyncio.sleep(chance.expovariate(1 / mean_seconds_between))


async def besiege(siege: Siege, num_clients: int, seconds: float, num_broken: int) -> None:
    seeds = random.Random(1)
    work = [be_good(siege, random.Random(seeds.random())) for _ in range(num_clients)]
    num_senders = 8
    hostile = [
        *[(send_broken, 0.8 * seconds * num_senders / num_broken)] * num_senders,
        *[(send_a_byte_at_a_time, 1.0)] * 20,
        *[(read_nothing, 5.0)] * 20,
        *[(vanish, 2.0)] * 8,
        *[(be_dear, 5.0)] * 4,
    ]
    work += [again(siege, once, random.Random(seeds.random()), pause) for once, pause in hostile]
    await asyncio.gather(*work)


async def answers(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        return {path: await ask(client, path) for path in GOOD}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--broken", type=int, default=20_000, help="requests that are broken at random")
    chosen = parser.parse_args()
    command = [str(chosen.bundle.resolve()), "--server", "--nobrowser", "--no-history", "--cache-ram", "16"]
    command += ["-m", str(chosen.model)] if chosen.model else []
    seconds = chosen.minutes * 60
    with running(Server("holdall", command)) as (url, process):
        expected = asyncio.run(answers(url))
        for path, (status, answer) in expected.items():
            if status not in (200, 501):
                print(f"{path} is answered with {status}: {json.dumps(answer)[:200]}")
        before = state_of(process.pid)
        tally = Tally()
        siege = Siege(url, time.monotonic() + seconds, tally, expected)
        asyncio.run(besiege(siege, chosen.clients, seconds, chosen.broken))
        time.sleep(SECONDS_TO_REST)
        after = state_of(process.pid)
        is_same = asyncio.run(answers(url)) == expected
    print("sent:", dict(tally.sent), "answers to the broken ones:", dict(tally.statuses))
    shown = [statistics.quantiles(tally.seconds, n=100)[place] for place in (49, 98)]
    print(f"good ones waited: median {shown[0]:.2f} s, p99 {shown[1]:.2f} s, longest {max(tally.seconds):.2f} s")
    print(f"wrong: {len(tally.wrong)}; the same answers at the end: {is_same}")
    for each in tally.wrong[:20]:
        print(" ", each)
    for name in before:
        print(f"{name:<14}{before[name]:>10}{after[name]:>10}")


if __name__ == "__main__":
    main()

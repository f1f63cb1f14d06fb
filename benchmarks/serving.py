"""Tokens a second, memory and end of a bundle beside llama-server, both with the same model and settings.

    .venv/bin/python benchmarks/serving.py dist/SmolLM2-135M-Instruct --peer PATH/TO/llama-server

The two take turns within one run, so that a machine whose speed drifts treats both alike; what counts is the ratio.
Without `--peer` only the bundle is measured. Memory is in MB, pages shared between processes counted once; the end is
the seconds from SIGTERM on.
"""

import asyncio
import signal
import time
from pathlib import Path

import httpx
from peers import Server, generate, in_turn, parse, running, servers

PROMPT = "<|im_start|>user\nWrite a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"
NUM_TOKENS = 128


async def rate(url: str, num_clients: int, num_tokens: int) -> float:
    async with httpx.AsyncClient() as client:
        started = time.monotonic()
        await asyncio.gather(*(generate(client, url, PROMPT, num_tokens) for _ in range(num_clients)))
        return num_clients * num_tokens / (time.monotonic() - started)


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children, pages shared between them counted once (PSS)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return own / 1000 + sum(resident_mb(int(child)) for child in children)


def measure(server: Server) -> dict[str, float]:
    with running(server) as (url, process):
        asyncio.run(rate(url, 1, 8))  # the first request pays for what is set up once
        figures = {f"{count} clients, tokens/s": asyncio.run(rate(url, count, NUM_TOKENS)) for count in (1, 4, 8, 16)}
        figures["resident memory, MB"] = resident_mb(process.pid)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        return figures | {"end, s": time.monotonic() - started}


if __name__ == "__main__":
    chosen = parse(__doc__).parse_args()
    with servers(chosen.bundle, chosen.peer) as found:
        in_turn(found, chosen.rounds, measure)

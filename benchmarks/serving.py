"""Tokens a second, memory and end of a bundle beside llama-server, both with the same model and settings.

    python3 build.py build -o dist/SmolLM2-135M-Instruct
    .venv/bin/python benchmarks/serving.py dist/SmolLM2-135M-Instruct --peer PATH/TO/llama-server

The two take turns within one run, so that a machine whose speed drifts treats both alike; what counts is the ratio.
Without `--peer` only the bundle is measured.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

N_CTX = 8192
NUM_SLOTS = 8
PROMPT = "<|im_start|>user\nWrite a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Server:
    name: str
    command: list[str]


@dataclass(frozen=True)
class Figures:
    """Tokens a second of one client and of eight in total; resident memory in MB; seconds from SIGTERM to the end."""

    one_client: float
    eight_clients: float
    resident_mb: float
    end_seconds: float


@contextmanager
def running(server: Server) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [*server.command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)


async def generate(client: httpx.AsyncClient, url: str, num_tokens: int) -> int:
    body = {"prompt": PROMPT, "n_predict": num_tokens, "ignore_eos": True, "stream": True, "cache_prompt": False}
    last = {}
    async with client.stream("POST", f"{url}/completion", json=body, timeout=120) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                last = json.loads(line[6:])
    return int(last["tokens_predicted"])


async def rate(url: str, num_clients: int, num_tokens: int) -> float:
    async with httpx.AsyncClient() as client:
        started = time.monotonic()
        counts = await asyncio.gather(*(generate(client, url, num_tokens) for _ in range(num_clients)))
        return sum(counts) / (time.monotonic() - started)


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children, pages shared between them counted once (PSS)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return own / 1000 + sum(resident_mb(int(child)) for child in children)


def measure(server: Server, num_tokens: int) -> Figures:
    with running(server) as (url, process):
        asyncio.run(rate(url, 1, 8))  # the first request pays for what is set up once
        one = asyncio.run(rate(url, 1, num_tokens))
        eight = asyncio.run(rate(url, 8, num_tokens))
        memory = resident_mb(process.pid)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        return Figures(one, eight, memory, time.monotonic() - started)


def model_of(bundle: Path, folder: str) -> str:
    with zipfile.ZipFile(bundle) as container:
        name = next(name for name in container.namelist() if name.endswith(".gguf"))
        return container.extract(name, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--peer", type=Path, help="llama-server, built from the same llama.cpp")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    chosen = parser.parse_args()
    num_threads = str(len(os.sched_getaffinity(0)))
    same = ["-c", str(N_CTX), "-b", "512", "-t", num_threads]
    servers = [Server("holdall", [str(chosen.bundle.resolve()), "--server", "--nobrowser", *same])]
    with tempfile.TemporaryDirectory() as folder:
        if chosen.peer:
            model = model_of(chosen.bundle, folder)
            slots = ["-np", str(NUM_SLOTS), "--kv-unified"]
            servers.append(Server("llama-server", [str(chosen.peer), "-m", model, *same, *slots]))
        rounds = [[measure(server, chosen.tokens) for server in servers] for _ in range(chosen.rounds)]
    print(f"{'median of ' + str(chosen.rounds):<24}" + "".join(f"{server.name:>14}" for server in servers) + "   ratio")
    for figure in Figures.__dataclass_fields__:
        columns = [[getattr(result, figure) for result in column] for column in zip(*rounds, strict=True)]
        medians = "".join(f"{statistics.median(column):14.2f}" for column in columns)
        ratio = statistics.median(a / b for a, b in zip(*columns, strict=True)) if len(columns) == 2 else None
        print(f"{figure:<24}{medians}" + (f"{ratio:8.2f}" if ratio else ""))


if __name__ == "__main__":
    main()

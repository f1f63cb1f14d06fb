"""A bundle and a llama-server with the same model and settings, started in turn and asked in the same way."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

N_CTX = 8192
NUM_SLOTS = 8


@dataclass(frozen=True)
class Server:
    name: str
    command: list[str]


def parse(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes: the bundle, its peer, how often."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--peer", type=Path, help="llama-server, built from the same llama.cpp")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


@contextmanager
def servers(bundle: Path, peer: Path | None) -> Iterator[list[Server]]:
    """Yield the bundle and, when there is one, the peer with the model taken out of the bundle."""
    same = ["-c", str(N_CTX), "-b", "512"]
    found = [Server("holdall", [str(bundle.resolve()), "--server", "--nobrowser", *same])]
    with tempfile.TemporaryDirectory() as folder:
        if peer:
            with zipfile.ZipFile(bundle) as container:
                model = container.extract(next(n for n in container.namelist() if n.endswith(".gguf")), folder)
            # llama-server takes as many threads as there are processors when none are named.
            slots = ["-np", str(NUM_SLOTS), "--kv-unified", "-t", str(len(os.sched_getaffinity(0)))]
            found.append(Server("llama-server", [str(peer), "-m", model, *same, *slots]))
        yield found


@contextmanager
def running(server: Server, *, ready_path: str = "/health") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a server on a free port; yield its URL and process once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [*server.command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(f"{url}{ready_path}"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{server.name} does not become ready")
            time.sleep(0.05)
        yield url, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


async def generate(
    client: httpx.AsyncClient, url: str, prompt: str, num_tokens: int, *, cache_prompt: bool = False
) -> list[float]:
    """Stream an answer of `num_tokens` and return the time of each event."""
    body = {"prompt": prompt, "n_predict": num_tokens, "ignore_eos": True, "stream": True, "cache_prompt": cache_prompt}
    times = []
    # llama-server closes idle connections early, and a request that meets the closing is lost.
    fresh = {"connection": "close"}
    async with client.stream("POST", f"{url}/completion", json=body, headers=fresh, timeout=300) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                times.append(time.monotonic())
                last = line
    if json.loads(last[6:])["tokens_predicted"] != num_tokens:
        raise SystemExit("a server did not generate what it was asked for")
    return times


def print_medians(title: str, names: list[str], figures: dict[str, list[list[float]]]) -> None:
    """Print each figure's median by server and, of two servers, the median ratio of the pairs."""
    print(f"{title:<26}" + "".join(f"{name:>18}" for name in names) + ("   ratio" if len(names) == 2 else ""))
    for figure, rounds in figures.items():
        columns = list(zip(*rounds, strict=True))
        medians = "".join(f"{statistics.median(column):18.2f}" for column in columns)
        ratio = f"{statistics.median(a / b for a, b in rounds):8.2f}" if len(names) == 2 else ""
        print(f"{figure:<26}{medians}{ratio}", flush=True)


def in_turn(servers: list[Server], num_rounds: int, measure: Callable[[Server], dict[str, float]]) -> None:
    """Measure the servers in turn, `num_rounds` times, and print the medians."""
    figures: dict[str, list[list[float]]] = {}
    for _ in range(num_rounds):
        results = [measure(server) for server in servers]
        for figure in results[0]:
            figures.setdefault(figure, []).append([result[figure] for result in results])
    print_medians(f"median of {num_rounds}", [server.name for server in servers], figures)

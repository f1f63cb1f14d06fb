"""Tokens a second beside llama-cpp-python's own server, for one client and for eight.

    .venv/bin/python benchmarks/python_server.py dist/SmolLM2-135M-Instruct --peer PATH/TO/python

PEER is a Python that has `llama-cpp-python[server]`. Both answer `/v1/completions`, not streamed: a stream of that
server ends when the next request comes.
"""

import asyncio
import os
import tempfile
import time
import zipfile

import httpx
from peers import N_CTX, Server, in_turn, parse, running

PROMPT = "<|im_start|>user\nWrite a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"
NUM_TOKENS = 64
NEVER_END = {"0": -100, "2": -100}  # the tokens at which the model would


async def generate(client: httpx.AsyncClient, url: str) -> int:
    body = {"prompt": PROMPT, "max_tokens": NUM_TOKENS, "logit_bias": NEVER_END}
    answer = await client.post(f"{url}/v1/completions", json=body, timeout=600)
    answer.raise_for_status()
    count: int = answer.json()["usage"]["completion_tokens"]
    return count


async def rate(url: str, num_clients: int) -> float:
    async with httpx.AsyncClient() as client:
        started = time.monotonic()
        counts = await asyncio.gather(*(generate(client, url) for _ in range(num_clients)))
        return sum(counts) / (time.monotonic() - started)


def measure(server: Server) -> dict[str, float]:
    with running(server, ready_path="/v1/models") as (url, _process):
        asyncio.run(rate(url, 1))  # the first request pays for what is set up once
        return {f"{count} clients, tokens/s": asyncio.run(rate(url, count)) for count in (1, 8)}


if __name__ == "__main__":
    chosen = parse(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [Server("holdall", [str(chosen.bundle.resolve()), "--server", "--nobrowser", "-c", str(N_CTX)])]
        if chosen.peer:
            with zipfile.ZipFile(chosen.bundle) as container:
                model = container.extract(next(n for n in container.namelist() if n.endswith(".gguf")), folder)
            command = [str(chosen.peer), "-m", "llama_cpp.server", "--model", model, "--n_ctx", str(N_CTX)]
            command += ["--n_threads", str(len(os.sched_getaffinity(0)))]
            found.append(Server("llama-cpp-python", command))
        in_turn(found, chosen.rounds, measure)

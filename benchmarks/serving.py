"""Tokens a second, memory and end of a bundle beside llama-server, both with the same model and settings.

    .venv/bin/python benchmarks/serving.py dist/SmolLM2-135M-Instruct --peer PATH/TO/llama-server

The two take turns within one run, so that a machine whose speed drifts treats both alike; what counts is the ratio.
The clients of the first figures send the same prompt and want nothing of it from the cache; the users of one
application send chats with the same instructions and questions of their own, with everything left at its default.
Without `--peer` only the bundle is measured. Memory is in MB, pages shared between processes counted once; the end is
the seconds from SIGTERM on.
"""

import asyncio
import signal
import time
from pathlib import Path

import httpx
from peers import Server, generate, in_turn, parse, running, servers

# What one application's users have in common, and what each asks.
SYSTEM = (
    "You are the guide of a small museum of the sea. Answer visitors kindly, in plain words, in a few sentences, and "
    "never make up what you don't know. The museum has three floors: ships and how they were built on the first, fish, "
    "whales and birds on the second, and on the third the lamp of the old lighthouse with a view over the bay. It is "
    "open from ten to six, on Mondays it is closed. Children under twelve come in free. There is a lift, a garden where"
    " dogs may wait, and a cafe that serves soup, bread and cake until five. Photographs are welcome without flash."
)
QUESTIONS = (
    *("How was the lamp lit?", "Which whales may I see?", "Is there something for children?", "When are you open?"),
    *("Tell me about the ships.", "May I bring my dog?", "What birds live by the bay?", "What can I eat?"),
)
PROMPT = "<|im_start|>user\nWrite a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"
NUM_TOKENS = 128


async def rate(url: str, num_clients: int, num_tokens: int) -> float:
    async with httpx.AsyncClient() as client:
        started = time.monotonic()
        await asyncio.gather(*(generate(client, url, PROMPT, num_tokens) for _ in range(num_clients)))
        return num_clients * num_tokens / (time.monotonic() - started)


async def rate_of_one_application(url: str, num_tokens: int) -> float:
    """Eight users of one application at once, each with a question of its own behind the same instructions."""

    async def ask(client: httpx.AsyncClient, question: str) -> int:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        body = {"messages": messages, "max_tokens": num_tokens, "ignore_eos": True}
        fresh = {"connection": "close"}
        answer = await client.post(f"{url}/v1/chat/completions", json=body, headers=fresh, timeout=300)
        count: int = answer.json()["usage"]["completion_tokens"]
        return count

    async with httpx.AsyncClient() as client:
        started = time.monotonic()
        counts = await asyncio.gather(*(ask(client, question) for question in QUESTIONS))
        return sum(counts) / (time.monotonic() - started)


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
        figures["8 users of one app"] = asyncio.run(rate_of_one_application(url, NUM_TOKENS))
        figures["resident memory, MB"] = resident_mb(process.pid)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        return figures | {"end, s": time.monotonic() - started}


if __name__ == "__main__":
    chosen = parse(__doc__).parse_args()
    with servers(chosen.bundle, chosen.peer) as found:
        in_turn(found, chosen.rounds, measure)

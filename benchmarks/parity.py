"""Whether a bundle writes the very text that llama-server writes, prompt by prompt.

    .venv/bin/python benchmarks/parity.py dist/SmolLM2-135M-Instruct --peer PATH/TO/llama-server [--model OTHER.gguf]

Greedy and by chance with the same seeds, each prompt alone on a server with one slot, once for each way to sample; and
greedy beside seven others. Where texts differ, the place of the first difference is told: a batch of another shape may
add up its numbers in another order, and a tie fall to the other side. How much that is shows in the last two lines,
where each server is compared with itself.
"""

import asyncio
from pathlib import Path

import httpx
from peers import Server, parse, running, servers

BEGINNINGS = (
    *("Once upon a time", "The little dog", "One day, Tom and Lily", "In a big forest", "A cat sat", "It was raining"),
    *("Sam had a red ball", "The sun was hot", "Mom said", "There was a king", "The capital of France is", "To bake"),
    *("Water boils at", "My favourite book", "The first computer", "Every morning", "In the year 1900", "Cats are"),
    *("The sea was calm", "Dear Anna,"),
)
NUM_TOKENS = 48
ALONE, BESIDE = "greedy, alone", "greedy, beside seven others"
WAYS: dict[str, dict[str, object]] = {
    "defaults": {},
    "repeat_penalty": {"repeat_penalty": 1.2},
    "presence, frequency": {"presence_penalty": 0.5, "frequency_penalty": 0.5},
    "dry": {"dry_multiplier": 0.8},
    "xtc": {"xtc_probability": 0.5},
    "typical_p": {"typical_p": 0.7},
    "top_n_sigma": {"top_n_sigma": 1.0},
    "dynamic temperature": {"dynatemp_range": 0.5},
    "mirostat 1": {"mirostat": 1},
    "mirostat 2": {"mirostat": 2},
    "another order": {"samplers": ["top_k", "temperature"]},
    "logit_bias": {"logit_bias": [[263, 5.0]]},
}


async def text(client: httpx.AsyncClient, url: str, prompt: str, **more: object) -> str:
    body = {"prompt": prompt, "n_predict": NUM_TOKENS, "cache_prompt": False, "temperature": 0.8, **more}
    answer = await client.post(f"{url}/completion", json=body, headers={"connection": "close"}, timeout=300)
    answer.raise_for_status()
    content: str = answer.json()["content"]
    return content


async def alone(url: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    async with httpx.AsyncClient() as client:
        found[ALONE] = [await text(client, url, prompt, temperature=0) for prompt in BEGINNINGS]
        for name, way in WAYS.items():
            prompts = enumerate(BEGINNINGS[:10], 100)
            found[f"seeds, {name}"] = [await text(client, url, prompt, seed=seed, **way) for seed, prompt in prompts]
    return found


async def beside_others(url: str) -> dict[str, list[str]]:
    found = []
    async with httpx.AsyncClient() as client:
        for index, prompt in enumerate(BEGINNINGS):
            others = [BEGINNINGS[(index + other) % len(BEGINNINGS)] for other in range(1, 8)]
            all_texts = (text(client, url, each, temperature=0) for each in (prompt, *others))
            found.append((await asyncio.gather(*all_texts))[0])
    return {BESIDE: found}


def first_difference(a: str, b: str) -> int:
    return next((at for at, (mine, other) in enumerate(zip(a, b, strict=False)) if mine != other), min(len(a), len(b)))


def ask(server: Server) -> dict[str, list[str]]:
    """Ask a server with one slot, where every text has the cache to itself, and then one with eight."""
    found: dict[str, list[str]] = {}
    for num_slots, way in ((1, alone), (8, beside_others)):
        with running(Server(server.name, [*server.command, "-np", str(num_slots)])) as (url, _process):
            found |= asyncio.run(way(url))
    return found


def main() -> None:
    parser = parse(__doc__)
    parser.add_argument("--model", type=Path)
    chosen = parser.parse_args()
    with servers(chosen.bundle, chosen.peer) as (ours, theirs):
        threads = theirs.command[theirs.command.index("-t") + 1]
        model = ["-m", str(chosen.model)] if chosen.model else []
        found = ask(Server(ours.name, [*ours.command, "-t", threads, *model]))
        expected = ask(Server(theirs.name, [*theirs.command, *model]))
    compared = {name: (mine, expected[name]) for name, mine in found.items()}
    for server, texts in ((ours, found), (theirs, expected)):
        compared[f"{server.name}, beside and alone"] = (texts[BESIDE], texts[ALONE])
    for name, (mine, other) in compared.items():
        pairs = list(zip(mine, other, strict=True))
        differing = [f"{index} at {first_difference(a, b)}" for index, (a, b) in enumerate(pairs) if a != b]
        same = f"{len(pairs) - len(differing)} of {len(pairs)}"
        print(f"{name:<36}{same:>10}  {'differing: ' + ', '.join(differing) if differing else ''}".rstrip())


if __name__ == "__main__":
    main()

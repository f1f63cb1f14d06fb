"""llama-benchy's client, unchanged: its latency, coherence and generation runs, over connections that it keeps."""

from tests.clients.pypi import run_script
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

PACKAGES = ("llama-benchy==0.4.0",)
SCRIPT = """
import asyncio, json, os
import aiohttp
from llama_benchy.client import LLMClient

async def measure():
    client = LLMClient(os.environ["ADDRESS"] + "/v1", "none", "any", exact_tg=True)
    async with aiohttp.ClientSession() as session:
        latency = [await client.measure_latency(session, mode) for mode in ("api", "generation")]
        is_coherent = await client.run_coherence_test(session)
        runs = [await client.run_generation(session, "Be kind.", "Hi", 3, True) for _ in range(6)]
    return latency, is_coherent, [(run.error, run.prompt_tokens > 0, run.total_tokens) for run in runs]

latency, is_coherent, runs = asyncio.run(measure())
print(json.dumps({"latency": all(latency), "coherent": is_coherent, "runs": runs}))
"""


def test_its_runs_are_counted_by_the_server() -> None:
    with serving_from_a_thread(make_app(ScriptedEngine(["The", " capital", " is", " Paris"]))) as address:
        measured = run_script(SCRIPT, PACKAGES, ADDRESS=address)
    # The scripted answer has four tokens: with a question's 100 it is whole, with a run's 3 it isn't.
    assert measured == {"latency": True, "coherent": True, "runs": [[None, True, 3]] * 6}

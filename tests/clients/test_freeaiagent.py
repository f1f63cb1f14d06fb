"""freeaiagent's backends, unchanged, with a server that runs; `tests/e2e` has it start a bundle of its own."""

from tests.clients.awkward import TEXT
from tests.clients.pypi import run_script

PACKAGES = ("freeaiagent==1.3.0",)
SCRIPT = """
import asyncio, json, os
from urllib.parse import urlsplit
from freeaiagent.backends.llamafile import LlamafileBackend
from freeaiagent.backends.openai_compat import OpenAICompatibleBackend

async def ask(backend):
    messages = [{"role": "user", "content": "Hi"}]
    return [
        await backend.is_available(),
        await backend.available_models(),
        await backend.chat(messages, "any"),
        "".join([piece async for piece in backend.stream(messages, "any")]),
        (await backend.chat_completion(messages, "any"))["content"],
    ]

address = os.environ["ADDRESS"]
backends = (LlamafileBackend(port=urlsplit(address).port, auto_start=False), OpenAICompatibleBackend(address))
print(json.dumps([asyncio.run(ask(backend)) for backend in backends]))
"""


def test_both_backends(awkward_server: str) -> None:
    answers = run_script(SCRIPT, PACKAGES, ADDRESS=awkward_server)
    assert answers == [[True, ["scripted"], TEXT, TEXT, TEXT]] * 2

"""llmfastdev, unchanged: it finds a server alive by its page, completes and chats."""

from runtime.server.page.files import WEBCLIENT
from tests.clients.awkward import PIECES, TEXT
from tests.clients.pypi import run_script
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

PACKAGES = ("llmfastdev==0.0.1",)
SCRIPT = """
import json, os
from llmfastdev import LlamafileClient
with LlamafileClient(os.environ["ADDRESS"]) as client:
    print(json.dumps({
        "alive": client.health_check(),
        "models": [model["id"] for model in client.get_model_info()["data"]],
        "completed": client.complete("Hi", stop=["never"]),
        "streamed": "".join(client.stream_completion("Hi")),
        "chatted": client.chat([{"role": "user", "content": "Hi"}]),
    }))
"""


def test_its_whole_surface() -> None:

    with serving_from_a_thread(make_app(ScriptedEngine(PIECES), webclient=WEBCLIENT)) as address:
        answers = run_script(SCRIPT, PACKAGES, ADDRESS=address)
    assert answers == {"alive": True, "models": ["scripted"], "completed": TEXT, "streamed": TEXT, "chatted": TEXT}

"""The `llm` tool with its plugin for llamafiles, which has OpenAI's client ask port 8080 and no other."""

from tests.clients.awkward import TEXT
from tests.clients.pypi import run_script

PACKAGES = (
    *("llm==0.36", "llm-llamafile==0.1", "click-default-group==1.2.4", "condense-json==1.1", "sqlite-utils==4.2.1"),
    *("puremagic==1.30", "python-ulid==4.1.0", "sqlite-fts4==1.0.3", "tabulate==0.10.0"),
)
SCRIPT = """
import json, os
import llm
model = llm.get_model("llamafile")
model.api_base = os.environ["ADDRESS"] + "/v1"  # the one thing that isn't the plugin's own
whole = model.prompt("Hi", system="Be kind.", stream=False)
streamed = model.prompt("Hi", temperature=0.5, max_tokens=50, seed=1)
pieces = list(streamed)
used = streamed.usage()
print(json.dumps({"whole": whole.text(), "streamed": "".join(pieces), "pieces": len(pieces), "output": used.output}))
"""


def test_it_asks_and_counts(awkward_server: str) -> None:
    answers = run_script(SCRIPT, PACKAGES, ADDRESS=awkward_server, LLM_USER_PATH="/nowhere", OPENAI_API_KEY="none")
    assert answers == {"whole": TEXT, "streamed": TEXT, "pieces": 4, "output": 5}

"""Theia's client for llamafiles: its own module, unchanged, with a stand-in for the framework that it is a part of."""

from tests.clients.awkward import TEXT
from tests.clients.node import run_script

PACKAGE = "@theia/ai-llamafile@1.75.0"
# All that the module takes from the framework.
NEIGHBOURS = {
    "@theia/ai-core": "exports.LanguageModelMessage = { isTextMessage: (message) => message.type === 'text' };"
}
SCRIPT = """
import module from "@theia/ai-llamafile/lib/common/llamafile-language-model.js";
const port = new URL(process.env.ADDRESS).port;
const model = new module.LlamafileLanguageModel("any", { status: "ready" }, "file:///x", port);
const messages = [
  { actor: "system", type: "text", text: "Be kind." }, { actor: "user", type: "text", text: "Hi" },
];
const { stream } = await model.request({ messages });
let text = "";
for await (const piece of stream) text += piece.content;
console.log(JSON.stringify({ text }));
"""


def test_every_network_read_is_whole_events(awkward_server: str) -> None:
    assert run_script(SCRIPT, (PACKAGE,), neighbours=NEIGHBOURS, ADDRESS=awkward_server) == {"text": TEXT}

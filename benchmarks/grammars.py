"""Tokens a second under a JSON schema, a GBNF grammar and neither, beside llama-server.

    .venv/bin/python benchmarks/grammars.py dist/SmolLM2-135M-Instruct --peer PATH/TO/llama-server

Each request has a seed of its own, the same for both; a grammar may end an answer, so what counts is the tokens that
there are by the seconds of the whole request. The first request of each kind compiles the grammar and counts.
"""

import json
import time

import httpx
from peers import Server, in_turn, parse, running, servers

NUM_REQUESTS = 8
NUM_TOKENS = 96
PROMPT = "<|im_start|>user\nDescribe three people as JSON.<|im_end|>\n<|im_start|>assistant\n"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "job": {"enum": ["baker", "teacher", "sailor"]},
        "likes": {"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": 2, "maxItems": 4},
    },
    "required": ["name", "age", "job", "likes"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": PERSON, "minItems": 3, "maxItems": 3}
GBNF = r"""
root ::= "[" ws value ("," ws value)* "]"
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
KINDS = {"no grammar": {"ignore_eos": True}, "JSON schema": {"json_schema": SCHEMA}, "GBNF": {"grammar": GBNF}}


def rate(url: str, fields: dict[str, object]) -> float:
    num_tokens, seconds = 0, 0.0
    for seed in range(NUM_REQUESTS):
        body = {"prompt": PROMPT, "n_predict": NUM_TOKENS, "seed": seed, **fields}
        started = time.monotonic()
        answer = httpx.post(f"{url}/completion", json=body, headers={"connection": "close"}, timeout=300)
        seconds += time.monotonic() - started
        answer.raise_for_status()
        reply = answer.json()
        num_tokens += reply["tokens_predicted"]
        if "json_schema" in fields and reply["stop_type"] == "eos":
            json.loads(reply["content"])
    return num_tokens / seconds


def measure(server: Server) -> dict[str, float]:
    with running(server) as (url, _process):
        rate(url, KINDS["no grammar"])  # the first requests pay for what is set up once
        return {f"{kind}, tokens/s": rate(url, fields) for kind, fields in KINDS.items()}


if __name__ == "__main__":
    chosen = parse(__doc__).parse_args()
    with servers(chosen.bundle, chosen.peer) as found:
        in_turn(found, chosen.rounds, measure)

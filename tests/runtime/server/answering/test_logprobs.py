import json
import math
from typing import Any

import pytest

from runtime.engine.values.events import TokenProbs
from runtime.server.answering.logprobs import parallel_json, tokens_json
from runtime.server.answering.streaming import to_json

CAT = TokenProbs(7, b" cat", -0.5, ((7, b" cat", -0.5), (8, b"\xc3", -2.0)))
NEVER = TokenProbs(9, "é".encode(), -math.inf, ())


def read(written: object) -> Any:
    """Return what a client reads."""
    return json.loads(to_json(written))


def test_the_shape_that_llama_server_and_openais_chat_share() -> None:
    assert read(tokens_json([CAT], 2)) == [
        {
            "id": 7,
            "token": " cat",
            "bytes": [32, 99, 97, 116],
            "logprob": -0.5,
            "top_logprobs": [
                {"id": 7, "token": " cat", "bytes": [32, 99, 97, 116], "logprob": -0.5},
                {"id": 8, "token": "\ufffd", "bytes": [0xC3], "logprob": -2.0},
            ],
        }
    ]


def test_after_sampling_there_are_probabilities() -> None:
    (cat, never) = read(tokens_json([CAT, NEVER], 1, is_after_sampling=True))
    assert cat["prob"] == pytest.approx(0.60653, abs=1e-5)
    assert [likely["id"] for likely in cat["top_probs"]] == [7]
    assert never["prob"] == 0.0


def test_minus_infinity_is_a_number_that_json_has() -> None:
    assert read(tokens_json([NEVER], 0))[0]["logprob"] == pytest.approx(-3.4e38, rel=0.01)


def test_the_parallel_lists_of_text_completions() -> None:
    lists = read(parallel_json([CAT, NEVER, CAT], 1, 10))
    assert lists["tokens"] == [" cat", "é", " cat"]
    assert lists["token_logprobs"][::2] == [-0.5, -0.5]
    assert lists["top_logprobs"] == [{" cat": -0.5}, {}, {" cat": -0.5}]
    assert lists["text_offset"] == [10, 14, 15]


def test_a_tokens_object_is_made_when_it_is_written() -> None:
    class Watched(tuple[tuple[int, bytes, float], ...]):
        num_read = 0

        def __getitem__(self, index: Any) -> Any:
            Watched.num_read += 1
            return super().__getitem__(index)

    probs = [TokenProbs(7, b"a", -0.5, Watched([(7, b"a", -0.5)])) for _ in range(100)]
    written = [tokens_json(probs, 1), parallel_json(probs, 1, 0)]
    assert Watched.num_read == 0
    to_json(written)
    assert Watched.num_read == 200

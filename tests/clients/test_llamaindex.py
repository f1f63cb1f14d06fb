"""LlamaIndex's client for llamafile's embeddings, unchanged."""

import pytest

from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread


def test_a_query_and_texts() -> None:
    from llama_index.embeddings.llamafile import LlamafileEmbedding

    with serving_from_a_thread(make_app(ScriptedEngine())) as address:
        embeddings = LlamafileEmbedding(base_url=address, request_timeout=10)
        query = embeddings.get_query_embedding("ab")
        texts = embeddings.get_text_embedding_batch(["ab", "c"])
    assert query == pytest.approx([0.010256, 0.999947] + [0.0] * 6, abs=1e-6)
    assert texts[0] == query
    assert texts[1] == pytest.approx([0.010101, 0.999949] + [0.0] * 6, abs=1e-6)

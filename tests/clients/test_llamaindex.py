"""LlamaIndex's clients for llamafile, unchanged."""

import pytest

from tests.clients.awkward import TEXT
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


def test_completions(awkward_server: str) -> None:
    from llama_index.llms.llamafile import Llamafile

    llm = Llamafile(base_url=awkward_server, temperature=0.0, seed=1)
    assert llm.complete("Hi").text == TEXT
    assert [piece.text for piece in llm.stream_complete("Hi")][-1] == TEXT


def test_chats_whose_stream_ends_without_the_mark_it_can_not_read() -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.llamafile import Llamafile

    engine = ScriptedEngine(["Hello", " wor\u2028ld"])
    with serving_from_a_thread(make_app(engine)) as address:
        llm = Llamafile(base_url=address, temperature=0.25, seed=7)
        messages = [ChatMessage(role="system", content="Be kind."), ChatMessage(role="user", content="Hi")]
        whole = llm.chat(messages)
        pieces = list(llm.stream_chat(messages))
    assert (whole.message.role.value, whole.message.content) == ("assistant", "Hello wor\u2028ld")
    assert pieces[-1].message.content == "Hello wor\u2028ld"
    assert {(asked.params.sampling.temperature, asked.params.sampling.seed) for asked in engine.requests} == {(0.25, 7)}

"""langchain-openai's embeddings, which send OpenAI's token ids instead of texts by default."""

from typing import Any

import httpx
import pytest

from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread


@pytest.fixture
def bytes_as_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of OpenAI's vocabulary, which tiktoken would download: a token for each byte, as the engine has them."""
    import tiktoken

    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=r"(?s:.+)", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda name: encoding)


@pytest.mark.usefixtures("bytes_as_tokens")
@pytest.mark.parametrize("sends_tokens", [True, False], ids=["token ids", "texts"])
def test_a_query_and_documents(sends_tokens: bool) -> None:
    from langchain_openai import OpenAIEmbeddings

    # It never closes connections of its own making.
    with serving_from_a_thread(make_app(ScriptedEngine())) as address, httpx.Client(timeout=10) as http_client:
        options: dict[str, Any] = {"api_key": "none", "max_retries": 0, "http_client": http_client}
        embeddings = OpenAIEmbeddings(
            base_url=f"{address}/v1", check_embedding_ctx_length=sends_tokens, model="any", **options
        )
        query = embeddings.embed_query("ab")
        documents = embeddings.embed_documents(["ab", "c"])
    assert query == pytest.approx([0.010256, 0.999947] + [0.0] * 6, abs=1e-6)
    assert documents[0] == pytest.approx(query)
    assert documents[1] == pytest.approx([0.010101, 0.999949] + [0.0] * 6, abs=1e-6)

"""langchain_community's Llamafile, unchanged and with its defaults."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

AWKWARD = ["Hello", "", " wor\u2028ld\x85", "\x0b ü🎈\n\n", "data: x"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_from_a_thread(make_app(ScriptedEngine(AWKWARD))) as address:
        yield address


@pytest.fixture
def llm(address: str) -> Any:
    from langchain_community.llms.llamafile import Llamafile

    return Llamafile(base_url=address, request_timeout=10)


def test_a_whole_answer(llm: Any) -> None:
    assert llm.invoke("Hi") == "".join(AWKWARD)


def test_a_streamed_answer_holds_nothing_but_the_text(llm: Any) -> None:
    assert "".join(llm.stream("Hi")) == "".join(AWKWARD)


def test_streaming_with_a_stop_string(llm: Any) -> None:
    llm.streaming = True
    assert llm.invoke("Hi", stop=["wor"]) == "Hello "


def test_embeddings_of_one_text_and_of_several(address: str) -> None:
    from langchain_community.embeddings import LlamafileEmbeddings

    embeddings = LlamafileEmbeddings(base_url=address, request_timeout=10)
    vector = embeddings.embed_query("Hi")
    assert len(vector) == 8
    assert embeddings.embed_documents(["Hi", "there"])[0] == vector

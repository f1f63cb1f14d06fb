from pathlib import Path

import pytest

from runtime.engine import loading
from runtime.engine.loading import LoadParams, Parts
from runtime.engine.values.params import EngineParams
from runtime.errors import UsageError
from runtime.extent import Extent


@pytest.mark.parametrize(
    ("template", "is_name"), [(None, False), ("llama2", True), ("{{ llama2 }}", False), ("only words", False)]
)
def test_a_chat_template_may_be_one_of_llama_cpps_names(template: str | None, is_name: bool) -> None:
    assert loading.is_template_name(template, ("llama2", "gemma")) is is_name


def test_what_is_no_chat_template_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"--chat-template: 'lama' is no Jinja .*, and none of .*: gemma, llama2$"):
        loading.is_template_name("lama", ("llama2", "gemma"))


def test_parts_become_an_engine_with_a_context_and_a_template_that_were_asked_for(stories260k: Path) -> None:
    weights = Extent(stories260k, 0, stories260k.stat().st_size)
    sizes = EngineParams(n_ctx=0, n_batch=2, num_slots=4)
    for n_ctx, expected in ((512, 512), (0, 2048), (None, 2048)):
        params = LoadParams(engine=sizes, n_ctx=n_ctx, chat_template="{{ mine }}")
        engine = loading.load(Parts(weights=weights, draft=weights), params, post=lambda call: call())
        try:
            assert (engine.info.n_ctx, engine.info.num_slots) == (expected, 4)
            assert (engine.info.chat_template, engine.info.is_template_named) == ("{{ mine }}", False)
        finally:
            engine.close()

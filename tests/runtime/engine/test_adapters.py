"""LoRA adapters on a real model: what each request gets, alone and beside others."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine.adapters import Adapter, Adapters
from runtime.engine.engine import Engine
from runtime.engine.native import Library, LoraAdapter, Model
from runtime.engine.values.commands import Command, RestoreSlot, SaveSlot
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import Event, Finished, TextDelta
from runtime.engine.values.params import EngineParams
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import ModelError, RequestError
from tests.asking import request_for
from tests.tiny_models import write_adapter, write_encoder

Lora = tuple[tuple[int, float], ...] | None
PROMPT = "Once upon a time, there was a little girl"


@pytest.fixture(scope="module")
def engine(stories260k: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("adapters")
    model = Model(Library(), stories260k)
    inside = folder / "inside.bin"
    inside.write_bytes(bytes(65536) + write_adapter(folder / "one.gguf", stories260k).read_bytes())
    adapters = [
        Adapter("one.gguf", LoraAdapter(model, inside, 65536)),
        Adapter("two.gguf", LoraAdapter(model, write_adapter(folder / "two.gguf", stories260k, seed=5))),
    ]
    params = EngineParams(n_ctx=1024, n_batch=64, num_slots=4, parking_bytes=10_000_000)
    engine = Engine(model, params, lambda call: call(), adapters=Adapters(adapters, (0.0, 0.0)))
    yield engine
    engine.close()
    model.close()


def begin(engine: Engine, lora: Lora, cache_prompt: bool = True, slot: int | None = None) -> "queue.Queue[Event]":
    tokens = tuple(engine.vocabulary.tokenize(PROMPT, add_special=True, parse_special=False))
    heard: queue.Queue[Event] = queue.Queue()
    request = request_for(
        tokens,
        sampling=SamplingParams(temperature=0),
        max_tokens=24,
        ignore_eos=True,
        cache_prompt=cache_prompt,
        lora=lora,
        slot=slot,
    )
    engine.submit(request, heard.put)
    return heard


def finish(heard: "queue.Queue[Event]") -> str:
    text = ""
    while not isinstance(event := heard.get(timeout=30), Finished):
        assert isinstance(event, TextDelta), event
        text += event.text
    return text


def test_an_adapter_changes_the_text_and_a_scale_of_zero_does_not(engine: Engine) -> None:
    plain = finish(begin(engine, None, cache_prompt=False))
    changed = finish(begin(engine, ((0, 1.0),), cache_prompt=False))
    assert plain != changed
    assert finish(begin(engine, ((0, 0.0), (1, 0.0)), cache_prompt=False)) == plain
    assert finish(begin(engine, ((1, 1.0),), cache_prompt=False)) not in (plain, changed)


def test_requests_with_different_scales_at_once_get_what_each_gets_alone(engine: Engine) -> None:
    wanted: list[Lora] = [None, ((0, 1.0),), ((1, 1.0),), ((0, 0.5), (1, 0.5)), ((0, 1.0),), None]
    alone = [finish(begin(engine, lora, cache_prompt=False)) for lora in wanted]
    together = [begin(engine, lora) for lora in wanted]
    assert [finish(heard) for heard in together] == alone


def test_the_engine_s_own_scales_hold_for_who_names_none(engine: Engine) -> None:
    named = finish(begin(engine, ((0, 1.0),)))
    engine.set_lora_scales([(0, 1.0)])
    assert finish(begin(engine, None)) == named
    engine.set_lora_scales(())


def do(engine: Engine, command: Command[Any]) -> Any:
    answers: queue.Queue[Any] = queue.Queue()
    engine.command(command, answers.put)
    return answers.get(timeout=30)


def test_a_restored_slot_is_not_taken_for_one_with_adapters(engine: Engine, tmp_path: Path) -> None:
    plain, changed = (finish(begin(engine, lora, cache_prompt=False)) for lora in (None, ((0, 1.0),)))
    finish(begin(engine, None, slot=0))
    do(engine, SaveSlot(0, tmp_path / "saved"))
    finish(begin(engine, ((0, 1.0),), slot=1))
    do(engine, RestoreSlot(1, tmp_path / "saved"))
    assert finish(begin(engine, ((0, 1.0),), slot=1)) == changed
    do(engine, RestoreSlot(1, tmp_path / "saved"))
    heard = begin(engine, ((1, 0.0),), slot=1)
    while not isinstance(event := heard.get(timeout=30), Finished):
        pass
    assert event.timings.num_cached_tokens > 0  # scales of 0 are as good as no adapters
    assert finish(begin(engine, None, slot=1)) == plain


def test_a_slot_with_adapters_is_not_saved(engine: Engine, tmp_path: Path) -> None:
    finish(begin(engine, ((0, 1.0),), slot=2))
    assert isinstance(do(engine, SaveSlot(2, tmp_path / "saved")), RequestError)
    assert not (tmp_path / "saved").exists()


def test_vectors_are_made_with_the_engine_s_own_scales(engine: Engine) -> None:
    def vector(scales: tuple[float, ...]) -> list[float]:
        engine.set_lora_scales(enumerate(scales))
        heard: queue.Queue[Any] = queue.Queue()
        engine.embed(
            EmbeddingJob([engine.vocabulary.tokenize(PROMPT, add_special=True, parse_special=False)], heard.put)
        )
        engine.set_lora_scales(())  # those at the time of asking count
        return heard.get(timeout=30).results[0][0]  # type: ignore[no-any-return]

    plain, one, two = vector((0.0, 0.0)), vector((1.0, 0.0)), vector((0.0, 1.0))
    assert plain != one != two != plain
    assert vector((0.0, 0.0)) == plain


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1e39])
def test_a_scale_that_is_no_number_is_refused(engine: Engine, scale: float) -> None:
    with pytest.raises(RequestError, match="no number to compute with"):
        begin(engine, ((0, scale),))


def test_an_adapter_tells_its_task_and_one_that_waits_for_words_is_refused(stories260k: Path, tmp_path: Path) -> None:
    model = Model(Library(), stories260k)
    adapter = LoraAdapter(model, write_adapter(tmp_path / "plain.gguf", stories260k))
    assert (adapter.task_name, adapter.prompt_prefix) == ("telling", "")
    with pytest.raises(ModelError, match="aLoRA"):
        LoraAdapter(model, write_adapter(tmp_path / "waits.gguf", stories260k, waits_for=(5, 6)))
    model.close()


def test_an_adapter_that_is_not_there_is_named(engine: Engine) -> None:
    with pytest.raises(RequestError, match="no LoRA adapter 2; this server has 2"):
        begin(engine, ((2, 1.0),))


def test_a_file_that_is_no_adapter_of_the_model_is_refused(stories260k: Path, tmp_path: Path) -> None:
    model = Model(Library(), stories260k)
    with pytest.raises(ModelError, match="can't use the LoRA adapter"):
        LoraAdapter(model, write_encoder(tmp_path / "bert.gguf"))
    with pytest.raises(ModelError, match="can't open"):
        LoraAdapter(model, tmp_path / "none.gguf")
    model.close()

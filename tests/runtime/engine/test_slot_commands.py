"""What is done with slots beside generating, on the engine's thread with a real model."""

import contextlib
import queue
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import worker
from runtime.engine.engine import Engine
from runtime.engine.native import Model
from runtime.engine.slot_commands import unpack
from runtime.engine.values.commands import Command, EraseSlot, ListSlots, RestoreSlot, Saved, SaveSlot
from runtime.engine.values.events import Finished, TextDelta
from runtime.engine.values.params import EngineParams
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import EngineError, HoldallError, RequestError, Unavailable
from tests.asking import request_for
from tests.tiny_models import write_windowed

TEXT = "Once upon a time, there was a little girl named Lily"
HEADER_BYTES = 12  # of llama.cpp's file: magic, version, number of words

GREEDY = SamplingParams(temperature=0)


@pytest.fixture
def engine(stories: Model) -> Iterator[Engine]:
    engine = Engine(stories, EngineParams(n_ctx=128, n_batch=64, num_slots=3), post=lambda call: call())
    yield engine
    engine.close()


def do(engine: Engine, command: Command[Any]) -> Any:
    """Return what came of a command; raise what it failed with."""
    answers: queue.Queue[Any] = queue.Queue()
    engine.command(command, answers.put)
    answer = answers.get(timeout=30)
    if isinstance(answer, HoldallError):
        raise answer
    return answer


def say(engine: Engine, text: str, slot: int | None, max_tokens: int = 8) -> tuple[str, Finished]:
    events: queue.Queue[Any] = queue.Queue()
    prompt = tuple(engine.vocabulary.tokenize(text, add_special=True, parse_special=True))
    engine.submit(request_for(prompt, sampling=GREEDY, max_tokens=max_tokens, slot=slot), events.put)
    said = ""
    while True:
        event = events.get(timeout=30)
        if isinstance(event, Finished):
            return said, event
        assert isinstance(event, TextDelta)
        said += event.text


def test_a_saved_slot_comes_back_into_another_one(engine: Engine, tmp_path: Path) -> None:
    said, first = say(engine, TEXT, slot=1)
    assert first.slot == 1
    saved = do(engine, SaveSlot(1, tmp_path / "lily"))
    num_tokens = first.timings.num_prompt_tokens + 7  # the last token was chosen, not computed
    assert saved == Saved(num_tokens, (tmp_path / "lily").stat().st_size)
    assert do(engine, EraseSlot(1)) == num_tokens
    assert do(engine, RestoreSlot(2, tmp_path / "lily")) == saved
    again, second = say(engine, TEXT, slot=2)
    assert (again, second.slot) == (said, 2)
    assert second.timings.num_prompt_tokens == 1


def test_a_saved_slot_comes_back_into_another_process(engine: Engine, stories: Model, tmp_path: Path) -> None:
    said, _first = say(engine, TEXT, slot=0)
    do(engine, SaveSlot(0, tmp_path / "lily"))
    other = Engine(stories, EngineParams(n_ctx=128, n_batch=64, num_slots=2), post=lambda call: call())
    try:
        do(other, RestoreSlot(1, tmp_path / "lily"))
        again, finished = say(other, TEXT, slot=1)
    finally:
        other.close()
    assert (again, finished.timings.num_prompt_tokens) == (said, 1)


def test_a_file_that_holds_the_tokens_alone_is_read_too(engine: Engine, tmp_path: Path) -> None:
    say(engine, TEXT, slot=0)
    saved = do(engine, SaveSlot(0, tmp_path / "new"))
    data = (tmp_path / "new").read_bytes()
    num_words = struct.unpack_from("=I", data, HEADER_BYTES - 4)[0]
    words = data[HEADER_BYTES : HEADER_BYTES + 4 * num_words]
    old = (
        data[: HEADER_BYTES - 4]
        + struct.pack("=I", saved.num_tokens)
        + words[12:-4]
        + data[HEADER_BYTES + len(words) :]
    )
    (tmp_path / "old").write_bytes(old)
    assert do(engine, RestoreSlot(1, tmp_path / "old")).num_tokens == saved.num_tokens
    assert say(engine, TEXT, slot=1)[1].timings.num_prompt_tokens == 1


def test_idle_caches_make_room_for_a_saved_one(engine: Engine, tmp_path: Path) -> None:
    say(engine, TEXT, slot=0, max_tokens=90)
    saved = do(engine, SaveSlot(0, tmp_path / "lily"))
    do(engine, EraseSlot(0))
    say(engine, TEXT, slot=1, max_tokens=80)
    say(engine, TEXT, slot=2, max_tokens=80)
    assert do(engine, RestoreSlot(0, tmp_path / "lily")) == saved
    held = [state.num_tokens for state in do(engine, ListSlots())]
    assert held[:2] == [saved.num_tokens, 0]  # the one that was not used for the longest time had to go
    assert sum(held) <= engine.info.n_ctx
    assert say(engine, TEXT, slot=0, max_tokens=2)[1].timings.num_prompt_tokens == 1


def test_a_saved_slot_does_not_push_out_requests_that_run(engine: Engine, tmp_path: Path) -> None:
    say(engine, TEXT, slot=0, max_tokens=150)
    do(engine, SaveSlot(0, tmp_path / "lily"))
    do(engine, EraseSlot(0))
    events: queue.Queue[Any] = queue.Queue()
    prompt = tuple(engine.vocabulary.tokenize(TEXT * 6, add_special=True, parse_special=True))
    engine.submit(request_for(prompt, sampling=GREEDY, max_tokens=60, ignore_eos=True, slot=1), events.put)
    events.get(timeout=30)
    with pytest.raises(RequestError, match="doesn't fit beside the requests that run"):
        do(engine, RestoreSlot(0, tmp_path / "lily"))
    while not isinstance(events.get(timeout=30), Finished):
        pass


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "flip", "count"])
def test_a_file_that_is_no_saved_slot_is_refused_and_the_slot_works_on(
    engine: Engine, tmp_path: Path, damage: str
) -> None:
    said, _first = say(engine, TEXT, slot=0)
    do(engine, SaveSlot(0, tmp_path / "file"))
    data = bytearray((tmp_path / "file").read_bytes())
    if damage == "flip":
        data[0] ^= 0xFF
    elif damage == "count":
        struct.pack_into("=I", data, HEADER_BYTES + 8, 3)
    else:
        data = {"cut": data[: len(data) // 2], "garbage": b"x" * 5000, "empty": b""}[damage]
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(RequestError, match="can't be restored") as refusal:
        do(engine, RestoreSlot(0, tmp_path / "file"))
    assert str(tmp_path) not in str(refusal.value)
    assert say(engine, TEXT, slot=0)[0] == said


def cells_of(data: bytes) -> tuple[int, int]:
    """Return where the cells of a saved slot begin, and how many there are."""
    place = HEADER_BYTES + 4 * struct.unpack_from("=I", data, HEADER_BYTES - 4)[0]
    streams, num_cells = struct.unpack_from("=II", data, place)
    assert streams == 1
    return place + 8, num_cells


def put_position(index: int, position: int) -> Callable[[bytearray], None]:
    def put(data: bytearray) -> None:
        cells, num_cells = cells_of(data)
        struct.pack_into("=i", data, cells + 12 * (index % num_cells), position)

    return put


def put_number(*, key: bool, half: int) -> Callable[[bytearray], None]:
    """Put an f16 into the first key of a file, or into its last value."""

    def put(data: bytearray) -> None:
        cells, num_cells = cells_of(data)
        struct.pack_into("=H", data, cells + 12 * num_cells + 8 + 12 if key else len(data) - 2, half)

    return put


def put_token(token: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into("=i", data, HEADER_BYTES + 12, token)


DAMAGES: dict[str, Callable[[bytearray], None]] = {
    "a position before the first": put_position(3, -1),
    "a position far before the first": put_position(3, -(2**31)),
    "a position twice": put_position(3, 4),
    "a position twice, at the end": put_position(-2, 16),
    "a position beyond the last": put_position(3, 2**31 - 1),
    "a key that is no number": put_number(key=True, half=0x7E00),
    "a key without an end": put_number(key=True, half=0xFC00),
    "a value that is no number": put_number(key=False, half=0xFE01),
    "a token beyond the vocabulary": put_token(2**31 - 1),
    "a token that stands for a picture": put_token(-5),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_inside_a_saved_slot_is_refused_and_harms_neither_this_slot_nor_others(
    engine: Engine, tmp_path: Path, damage: str
) -> None:
    said, _first = say(engine, TEXT, slot=0)
    do(engine, SaveSlot(0, tmp_path / "good"))
    data = bytearray((tmp_path / "good").read_bytes())
    DAMAGES[damage](data)
    (tmp_path / "bad").write_bytes(data)
    for slot in (0, 1, 0):
        with pytest.raises(RequestError, match="can't be restored"):
            do(engine, RestoreSlot(slot, tmp_path / "bad"))
    assert do(engine, ListSlots())[0].num_tokens == 0
    assert say(engine, TEXT, slot=1)[0] == said
    do(engine, RestoreSlot(0, tmp_path / "good"))
    again, finished = say(engine, TEXT, slot=0)
    assert (again, finished.timings.num_prompt_tokens) == (said, 1)


def damaged(good: bytes, chance: random.Random) -> bytes:
    """Return a saved slot's file with numbers, bytes or a stretch of it changed, most often near its head."""
    data = bytearray(good)
    cells, num_cells = cells_of(good)
    head_bytes = cells + 12 * num_cells + 40
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(head_bytes if chance.random() < 0.8 else len(data) - 8)
        match chance.randrange(5):
            case 0:
                struct.pack_into("=I", data, place & ~3, chance.choice((0, 1, 2, 17, 255, 2**16, 2**31, 2**32 - 1)))
            case 1:
                data[place] ^= 1 << chance.randrange(8)
            case 2:
                data[place : place + 4] = chance.randbytes(4)
            case 3:
                del data[place : place + chance.choice((1, 4, 12, 1000))]
            case 4:
                data[place:place] = chance.randbytes(chance.choice((1, 4, 12, 1000)))
        if len(data) <= head_bytes + 8:
            break
    return bytes(data)


@pytest.mark.parametrize("num_files", [100, pytest.param(2000, marks=pytest.mark.fuzz)])
def test_no_damaged_file_harms_its_slot_or_another(engine: Engine, tmp_path: Path, num_files: int) -> None:
    said, _first = say(engine, TEXT, slot=0)
    do(engine, SaveSlot(0, tmp_path / "good"))
    good = (tmp_path / "good").read_bytes()
    for seed in range(num_files):
        (tmp_path / "bad").write_bytes(damaged(good, random.Random(seed)))
        with contextlib.suppress(RequestError):  # a changed number may be as good as the one that it was
            do(engine, RestoreSlot(0, tmp_path / "bad"))
        say(engine, TEXT, slot=0, max_tokens=1)
        assert say(engine, TEXT, slot=1)[0] == said, seed
        do(engine, RestoreSlot(0, tmp_path / "good"))
        assert say(engine, TEXT, slot=0)[0] == said, seed


def test_a_saved_slot_of_a_model_with_a_window_comes_back_or_is_refused(stories: Model, tmp_path: Path) -> None:
    """It has two caches, one after the other; of the second only the window is kept."""
    model = Model(stories.library, write_windowed(tmp_path / "windowed.gguf", window=8))
    engine = Engine(model, EngineParams(n_ctx=128, n_batch=64, num_slots=2), post=lambda call: call())
    try:
        say(engine, "abc" * 20, slot=0)
        saved = do(engine, SaveSlot(0, tmp_path / "good"))
        assert do(engine, RestoreSlot(1, tmp_path / "good")) == saved
        data = bytearray((tmp_path / "good").read_bytes())
        put_number(key=False, half=0x7C00)(data)  # in the second cache
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(RequestError, match="can't be restored"):
            do(engine, RestoreSlot(1, tmp_path / "bad"))
    finally:
        engine.close()
        model.close()


def test_a_file_that_is_not_there_is_told_by_its_name_alone(engine: Engine, tmp_path: Path) -> None:
    say(engine, TEXT, slot=0)
    with pytest.raises(RequestError, match="there is no saved slot 'nothing'"):
        do(engine, RestoreSlot(0, tmp_path / "nothing"))
    assert do(engine, ListSlots())[0].num_tokens > 0  # and the slot keeps what it had


def test_what_can_not_be_saved_leaves_no_half_file(engine: Engine, tmp_path: Path) -> None:
    say(engine, TEXT, slot=0)
    with pytest.raises(Unavailable, match="could not be saved"):
        do(engine, SaveSlot(0, tmp_path / "no-such-folder" / "file"))
    folder = tmp_path / "file"
    folder.mkdir()
    with pytest.raises(Unavailable, match="could not be saved"):
        do(engine, SaveSlot(0, folder))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_slot_at_work_is_told_of_and_waited_for(engine: Engine, tmp_path: Path) -> None:
    events: queue.Queue[Any] = queue.Queue()
    answers: queue.Queue[Any] = queue.Queue()
    prompt = tuple(engine.vocabulary.tokenize(TEXT, add_special=True, parse_special=True))
    request = request_for(prompt, sampling=GREEDY, max_tokens=60, ignore_eos=True, slot=1)
    engine.submit(request, events.put)
    events.get(timeout=30)
    engine.command(SaveSlot(1, tmp_path / "later"), answers.put)
    idle, busy, _other = do(engine, ListSlots())
    assert (idle.index, idle.num_tokens, idle.work) == (0, 0, None)
    assert busy.work is not None
    assert busy.work.request is request
    assert busy.work.timings.num_generated_tokens >= 1
    while not isinstance(events.get(timeout=30), Finished):
        pass
    assert answers.get(timeout=30).num_tokens == len(prompt) + 59


def test_the_end_of_the_engine_is_told_to_who_waits(stories: Model) -> None:
    engine = Engine(stories, EngineParams(n_ctx=64, num_slots=1), post=lambda call: call())
    engine.close()
    with pytest.raises(Unavailable):
        do(engine, ListSlots())


def test_a_bug_in_a_command_concerns_who_gave_it_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(worker, "carry_out", break_down)
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            do(engine, ListSlots())
    assert say(engine, TEXT, slot=0)[0]


def test_what_waits_for_a_slot_hears_of_the_engines_end(stories: Model) -> None:
    engine = Engine(stories, EngineParams(n_ctx=256, num_slots=1), post=lambda call: call())
    events: queue.Queue[Any] = queue.Queue()
    answers: queue.Queue[Any] = queue.Queue()
    engine.submit(request_for((1,), sampling=GREEDY, ignore_eos=True), events.put)
    events.get(timeout=30)
    engine.command(EraseSlot(0), answers.put)
    engine.close()
    assert isinstance(answers.get(timeout=30), (Unavailable, int))  # closed, or just before the last step


@pytest.mark.parametrize(
    ("words", "tokens"),
    [
        ([], []),
        ([5, 6], [5, 6]),
        ([-1, 1, 2, 5, 6, 0], [5, 6]),
        ([-1, 1, 0, 0], []),
        ([-1, 2, 2, 5, 6, 0], []),
        ([-1, 1, 2, 5, 6], []),
        ([-1, 1, 1, 5, 1, 0], []),  # a picture at 0
        ([-1], []),
    ],
)
def test_the_words_of_a_file_are_its_tokens_when_the_layout_is_known(words: list[int], tokens: list[int]) -> None:
    assert unpack(words) == tokens

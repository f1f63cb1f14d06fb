"""Pictures and sounds through llama.cpp's mtmd, with tiny models that the tests write."""

import queue
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from runtime.engine.engine import Engine
from runtime.engine.native import Library, Model, Projector
from runtime.engine.values.commands import Saved, SaveSlot
from runtime.engine.values.events import Event, Failed, Finished, TextDelta
from runtime.engine.values.media import MARK, Media, MediaKind
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import Prompt, TextPart
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import EngineError, HoldallError, ModelError, RequestError
from tests.asking import request_for
from tests.tiny_projectors import N_CTX, Projecting, png, png_of, wav, write_projector, write_text_model

A, B = png(hue=1), png(60, 40, hue=90)
HUGE, BOMB = png_of(12000, 12000, zlib.compress(b"")), png_of(32, 32, zlib.compress(bytes(70 * 2**20)))
TEXT = f"abc{MARK}def"
# What a llama-server of the same llama.cpp, built with GCC, says to "abc<__media__>def" at temperature 0.
PEER = {
    (Projecting.WHOLE, A): (25, [288, 138, 138, 138, 138, 138, 138, 138, 40, 317, 49, 81]),
    (Projecting.WHOLE, B): (25, [288, 138, 138, 138, 138, 138, 138, 138, 194, 83, 194, 44]),
    (Projecting.TILED, A): (100, [127, 261, 54, 263, 41, 27, 54, 307, 263, 32, 327, 263]),
    (Projecting.TILED, B): (100, [127, 95, 105, 307, 261, 197, 99, 83, 73, 267, 197, 99]),
    (Projecting.GRID, A): (25, [166, 18, 298, 219, 50, 317, 78, 152, 279, 73, 61, 145]),
    (Projecting.GRID, B): (49, [167, 51, 224, 152, 38, 277, 318, 199, 317, 175, 166, 38]),
    (Projecting.SOUND, wav()): (157, [191, 160, 191, 19, 191, 191, 191, 191, 191, 191, 191, 267]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_text_model(folder / "text.gguf")
    write_text_model(folder / "grid.gguf", has_grid=True)
    for kind in Projecting:
        write_projector(folder / f"mmproj-{kind.value}.gguf", kind)
    return folder


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@contextmanager
def seeing(library: Library, folder: Path, kind: Projecting, **params: int) -> Iterator[Engine]:
    model = Model(library, folder / ("grid.gguf" if kind is Projecting.GRID else "text.gguf"))
    projector = Projector(model, folder / f"mmproj-{kind.value}.gguf", 0, 0, num_threads=1)
    engine = Engine(model, EngineParams(**{"n_ctx": N_CTX, "num_slots": 2, **params}), post, projector=projector)
    with closing(model), closing(engine):
        yield engine


def post(call: Callable[[], None]) -> None:
    call()


@pytest.fixture(scope="module")
def seer(library: Library, folder: Path) -> Iterator[Engine]:
    with seeing(library, folder, Projecting.WHOLE) as engine:
        yield engine


def start(engine: Engine, prompt: Prompt, num_tokens: int, **more: object) -> "queue.Queue[Event]":
    events: queue.Queue[Event] = queue.Queue()
    sampling = SamplingParams(temperature=0)
    request = request_for(
        prompt.tokens, prompt.media, sampling=sampling, max_tokens=num_tokens, ignore_eos=True, **more
    )
    engine.submit(request, events.put)
    return events


def hear(events: "queue.Queue[Event]") -> tuple[list[int], Finished]:
    tokens: list[int] = []
    while True:
        event = events.get(timeout=30)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            return tokens, event
        assert isinstance(event, TextDelta)
        tokens += event.tokens


def say(engine: Engine, text: str, *files: bytes, num_tokens: int = 12, **more: object) -> tuple[list[int], Finished]:
    return hear(start(engine, engine.read([TextPart(text)], files, "prompt"), num_tokens, **more))


@pytest.mark.parametrize("kind", Projecting, ids=lambda kind: kind.value)
def test_what_is_said_of_a_picture_is_what_llama_server_says(library: Library, folder: Path, kind: Projecting) -> None:
    with seeing(library, folder, kind) as engine:
        for (_kind, file), (num_prompt_tokens, tokens) in PEER.items():
            if _kind is kind:
                said, end = say(engine, TEXT, file)
                assert (said, end.timings.num_prompt_tokens) == (tokens, num_prompt_tokens)
                again, end = say(engine, TEXT, file)
                assert (again, end.timings.num_prompt_tokens) == (tokens, 1)


def test_in_a_part_that_is_plain_text_a_control_tokens_name_is_its_letters(seer: Engine) -> None:
    assert "</s>" in {token.name for token in seer.vocabulary.control_tokens}
    for text in (f"</s>a{MARK}", "a</s>"):
        parts = [TextPart(text), TextPart(f"</s>b{MARK}", parses_special=False), TextPart("</s>", parses_special=True)]
        whole = seer.read(parts, [A, B][: 1 + text.count(MARK)], "prompt").text_tokens
        assert whole.count(2) == 1 + text.count("</s>")
        assert seer.vocabulary.detokenize(whole).count("</s>") == 2 + text.count("</s>")


@pytest.mark.parametrize("kind", [Projecting.WHOLE, Projecting.TILED, Projecting.GRID], ids=lambda kind: kind.value)
def test_in_small_steps_beside_others_the_text_is_the_same(library: Library, folder: Path, kind: Projecting) -> None:
    with seeing(library, folder, kind, n_batch=32, num_slots=4) as engine:
        alone = [say(engine, TEXT, file, num_tokens=40)[0] for file in (A, B)]
        assert alone[0] != alone[1]
        talker = start(
            engine, Prompt(tuple(engine.vocabulary.tokenize("xyz", add_special=True, parse_special=True))), 300
        )
        prompts = [engine.read([TextPart(TEXT)], [file], "prompt") for file in (A, B)]
        both = [start(engine, prompt, 40, cache_prompt=False) for prompt in prompts]
        assert [hear(events)[0] for events in both] == alone
        assert len(hear(talker)[0]) == 300


def test_a_conversation_goes_on_after_its_picture(seer: Engine) -> None:
    said, _end = say(seer, f"{TEXT} ghi{MARK}jkl", A, B, cache_prompt=False)
    say(seer, TEXT, A)
    again, end = say(seer, f"{TEXT} ghi{MARK}jkl", A, B)
    assert again == said
    assert end.timings.num_cached_tokens >= 24


def test_what_was_computed_of_a_picture_is_kept(seer: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    file = png(hue=77)
    encoded: list[Media] = []
    encode = Projector.encode
    monkeypatch.setattr(Projector, "encode", lambda self, media: (encoded.append(media), encode(self, media)))
    first, _end = say(seer, TEXT, file, cache_prompt=False)
    assert say(seer, TEXT, file, cache_prompt=False)[0] == first
    assert say(seer, f"other{TEXT}", file)[0] != first
    assert len(encoded) == 1
    assert encoded[0].raw is None


def test_a_failure_to_compute_a_picture_ends_its_request_alone(seer: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_projector: Projector, _media: Media) -> None:
        raise EngineError("too blurred")

    monkeypatch.setattr(Projector, "encode", fail)
    with pytest.raises(EngineError, match="too blurred"):
        say(seer, TEXT, png(hue=78))
    monkeypatch.undo()
    assert len(say(seer, TEXT, png(hue=78))[0]) == 12


def test_who_goes_away_while_a_picture_waits_is_not_computed(seer: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_go_on = queue.Queue[None](), queue.Queue[None]()
    encode = Projector.encode

    def slowly(self: Projector, media: Media) -> None:
        begun.put(None)
        may_go_on.get(timeout=30)
        encode(self, media)

    monkeypatch.setattr(Projector, "encode", slowly)
    events: queue.Queue[Event] = queue.Queue()
    prompts = [seer.read([TextPart(TEXT)], [png(hue=hue)], "prompt") for hue in (5, 6)]
    requests = [request_for(prompt.tokens, prompt.media, max_tokens=1) for prompt in prompts]
    numbers = [seer.submit(request, events.put) for request in requests]
    begun.get(timeout=30)
    for number in numbers:
        seer.cancel(number)
    may_go_on.put(None)
    said, _end = say(seer, "abc")
    assert said
    assert events.empty()
    assert requests[1].prompt.media[0].vectors is None


def test_a_slot_with_a_picture_is_not_saved(seer: Engine, tmp_path: Path) -> None:
    _said, end = say(seer, TEXT, A)
    answers: queue.Queue[Saved | HoldallError] = queue.Queue()
    seer.command(SaveSlot(end.slot, tmp_path / "slot"), answers.put)
    answer = answers.get(timeout=30)
    assert isinstance(answer, RequestError)
    assert "holds pictures" in str(answer)


def test_a_projector_is_found_in_the_middle_of_a_file(library: Library, folder: Path, tmp_path: Path) -> None:
    alone = (folder / "mmproj-gemma3.gguf").read_bytes()
    inside = tmp_path / "bundle"
    inside.write_bytes(b"x" * 65536 + alone + b"y" * 100)
    with closing(Model(library, folder / "text.gguf")) as model:
        projector = Projector(model, inside, 65536, len(alone), num_threads=1)
        assert projector.kinds == {MediaKind.PICTURE}
        assert len(projector.read([TextPart(TEXT)], [A], "prompt").tokens) == 25
        projector.close()


@pytest.mark.parametrize("kind", [Projecting.WHOLE, None], ids=["of another model", "no projector at all"])
def test_what_is_no_projector_of_this_model_is_refused(
    library: Library, folder: Path, tmp_path: Path, kind: Projecting | None
) -> None:
    path = folder / "text.gguf" if kind is None else write_projector(tmp_path / "other.gguf", kind, n_embd=48)
    with closing(Model(library, folder / "text.gguf")) as model, pytest.raises(ModelError, match="can't use the proj"):
        Projector(model, path, 0, 0, num_threads=1)


@pytest.mark.parametrize(
    ("text", "files", "words"),
    [
        pytest.param(TEXT, [b"not a picture"], "no picture that can be read; send PNG, JPEG", id="noise"),
        pytest.param(TEXT, [b""], "no picture that can be read", id="nothing"),
        pytest.param(TEXT, [A[:200]], "no picture that can be read", id="cut short"),
        pytest.param(
            TEXT,
            [png_of(12000, 12000, zlib.compress(bytes(1000)))],
            "12000 x 12000 pixels, and at most 64 million",
            id="too large",
        ),
        pytest.param(
            TEXT, [png_of(32, 32, zlib.compress(bytes(10**8)))], "is no picture that can be read", id="a bomb"
        ),
        pytest.param(TEXT, [b"8BPS" + bytes(100)], "is no picture that can be read", id="of another kind"),
        pytest.param(TEXT, [wav()], "is a sound, which this model can't read", id="a sound"),
        pytest.param(f"abc{MARK}", [wav()], "can't end with a picture or a sound", id="at the end"),
        pytest.param(TEXT, [A, B], "has 1 places for pictures and sounds, but 2 came", id="more files than places"),
        pytest.param(f"{MARK}{TEXT}", [A], "has 2 places", id="more places than files"),
    ],
)
def test_what_can_not_be_seen_is_refused_in_words(
    library: Library, folder: Path, text: str, files: list[bytes], words: str
) -> None:
    kind = Projecting.SOUND if text.endswith(MARK) else Projecting.WHOLE  # after a picture come words of mtmd's own
    with seeing(library, folder, kind) as engine, pytest.raises(RequestError, match=words) as refusal:
        engine.read([TextPart(text)], files, "messages")
    assert refusal.value.param == "messages"


def test_sounds_that_would_end_the_process_are_refused(library: Library, folder: Path) -> None:
    # FLAC's header, with the number of samples in its last 36 bits before the checksum.
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + (16000 << 44 | 15 << 36 | (2**36 - 1)).to_bytes(8, "big")
    endless = b"fLaC\x80\x00\x00\x22" + info + bytes(16)
    with seeing(library, folder, Projecting.SOUND) as engine:
        for file in (endless, wav(0.001), wav(0.0), b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(40), b"ID3" + bytes(40)):
            with pytest.raises(RequestError, match="no sound that can be read"):
                engine.read([TextPart(TEXT)], [file], "prompt")
        assert len(say(engine, TEXT, wav())[0]) == 12


def test_a_picture_that_must_be_computed_whole_has_to_fit_into_a_step(library: Library, folder: Path) -> None:
    with (
        seeing(library, folder, Projecting.WHOLE, n_batch=8) as engine,
        pytest.raises(RequestError, match=r"takes 16 tokens, .* start with -b 16"),
    ):
        say(engine, TEXT, A)


def test_an_engine_without_a_projector_says_so(library: Library, folder: Path) -> None:
    with closing(Model(library, folder / "text.gguf")) as model:
        engine = Engine(model, EngineParams(n_ctx=64), post)
        with pytest.raises(RequestError, match="this model reads text only"):
            engine.read([TextPart(TEXT)], [A], "messages")
        engine.close()

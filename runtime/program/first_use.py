"""The first use of a model, in a child: all that could end the process is done once with each of its parts.

It uses them as the program does, through the same engine, with a context of a few tokens.
"""

import json
import os
import queue
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime import sandbox
from runtime.engine.engine import Engine
from runtime.engine.loading import AdapterPart, LoadParams, Parts, load
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import Event, Failed, Finished
from runtime.engine.values.media import MARK, MediaKind
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import GenerationParams, GenerationRequest, Prompt, TextPart
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import HoldallError, ModelError, RequestError
from runtime.extent import Extent

_PARAMS = EngineParams(n_ctx=256, n_batch=64, num_slots=2, num_threads=None)
# A picture takes some hundred tokens, at times all at once. mtmd's threads spin where they wait for each other: one has
# nobody to wait for on a busy computer.
_PARAMS_WITH_PROJECTOR = replace(_PARAMS, n_ctx=2048, n_batch=1024, num_threads=1)
# A larger one takes longer for one picture than all the rest of a start does: it is loaded, but reads nothing here.
_MAX_USED_PROJECTOR_BYTES = 100_000_000
_NUM_PROMPT = 6  # few: a large model takes its time for each
_NUM_GENERATED = 2
# Words, every kind of character that tokenizers treat apart, and what a vocabulary may lack: single bytes.
_TEXT = "Hello, world! It's 12345 o'clock.\n\n\tNaïve Ωμέγα 你好 हिन्दी العربية 👩‍🚀 \x00\x7f\ufffd <s></s><|im_start|>"
_PIXELS = 64
_SOUND_BYTES = 6400  # a fifth of a second


def use(request: bytes) -> bytes:
    """Use the parts that a request of `trial`'s names; return why they can't be used, empty when they can."""
    os.environ["GGML_NO_BACKTRACE"] = "1"  # ggml would start a debugger over its last words
    found = json.loads(request)
    parts = Parts(
        weights=_extent(found["weights"]),
        draft=found["draft"] and _extent(found["draft"]),
        projector=found["projector"] and _extent(found["projector"]),
        adapters=tuple(AdapterPart(packed[0], _extent(packed), 1.0) for packed in found["adapters"]),
    )
    if found["is_sandboxed"]:
        sandbox.enter([extent.path for extent in parts.extents()], [])
    try:
        use_parts(parts)
    except ModelError as error:
        return str(error).encode("utf-8", "replace")
    except HoldallError as error:
        return f"the model in {parts.weights.path} can't be used: {error}".encode("utf-8", "replace")
    return b""


def use_parts(parts: Parts) -> None:
    """Load the parts and use them once. Raises HoldallError when that can't be done."""
    calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    params = _PARAMS_WITH_PROJECTOR if parts.projector else _PARAMS
    engine = load(parts, LoadParams(n_ctx=params.n_ctx, engine=params), calls.put)
    try:
        reads_media = parts.projector is not None and parts.projector.size <= _MAX_USED_PROJECTOR_BYTES
        for is_over in _uses(engine, reads_media=reads_media):
            while not is_over():
                calls.get()()
    finally:
        engine.close()


def _extent(packed: list[Any]) -> Extent:
    path, offset, size = packed
    return Extent(Path(path), offset, size)


Wait = Callable[[], bool]


def _uses(engine: Engine, *, reads_media: bool) -> Iterator[Wait]:
    """Do one thing after another; yield for each whether it is over. Raises what it was refused with."""
    vocabulary = engine.vocabulary
    vocabulary.all_metadata()
    for token in range(engine.info.n_vocab):
        vocabulary.piece(token)
    tokens = vocabulary.tokenize(_TEXT, add_special=True, parse_special=True)
    plain = vocabulary.tokenize(_TEXT, add_special=False, parse_special=False)
    vocabulary.detokenize(tokens + plain)
    if engine.info.is_causal:
        yield _answer(engine, Prompt(tuple(tokens or plain or [0])[:_NUM_PROMPT]))
        files = {MediaKind.PICTURE: _picture(), MediaKind.SOUND: _sound()}
        for kind in engine.info.media_kinds if reads_media else ():
            yield _answer(engine, engine.read([TextPart(f"{MARK}Hello")], [files[kind]], "prompt"))
    text = (tokens or plain or [0])[: min(_NUM_PROMPT, engine.max_text_tokens)]
    yield _vector(engine, text)
    if engine.can_rank:
        yield _vector(engine, vocabulary.pair("Hello", "world")[: engine.max_text_tokens])


def _picture() -> bytes:
    """Return a grey picture as BMP: a file's head, a picture's, and its pixels."""
    pixels = b"\x80" * (3 * _PIXELS * _PIXELS)
    head = struct.pack("<IiiHHIIiiII", 40, _PIXELS, _PIXELS, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + head + pixels


def _sound() -> bytes:
    """Return silence as WAV: 16 bits, 16 kHz."""
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    data = struct.pack("<4sI", b"data", _SOUND_BYTES) + bytes(_SOUND_BYTES)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(layout) + len(data), b"WAVE") + layout + data


def _answer(engine: Engine, prompt: Prompt) -> Wait:
    events: list[Event] = []
    sampling = SamplingParams(seed=1, n_probs=2)
    params = GenerationParams(sampling=sampling, max_tokens=_NUM_GENERATED, ignore_eos=True)
    engine.prepare(sampling)
    try:
        engine.submit(GenerationRequest(prompt, params), events.append)
    except RequestError as error:  # a picture that is too long for a small context
        events.append(Failed(error))

    def is_over() -> bool:
        last = events[-1] if events else None
        if isinstance(last, Failed) and not isinstance(last.error, RequestError):
            raise last.error
        return isinstance(last, (Finished, Failed))

    return is_over


def _vector(engine: Engine, tokens: list[int]) -> Wait:
    ended: list[EmbeddingJob | Exception] = []
    engine.embed(EmbeddingJob([tokens], ended.append))

    def is_over() -> bool:
        if ended and isinstance(ended[0], Exception) and not isinstance(ended[0], RequestError):
            raise ended[0]
        return bool(ended)

    return is_over

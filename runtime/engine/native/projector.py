"""A projector (llama.cpp's mtmd): what makes vectors of pictures and sounds that a model reads as if they were tokens.

mtmd takes a file by its path alone, so a projector inside a bundle is copied into a memory file for as long as it
loads. It decodes PNG, JPEG, GIF and BMP (stb_image) and WAV, MP3 and FLAC (miniaudio), scales and cuts pictures as the
model wants them, and puts the model's own marks around them.
"""

import ctypes
import hashlib
import os
import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from runtime.engine.native import png
from runtime.engine.native.bindings import picture_info
from runtime.engine.native.model import Model
from runtime.engine.values.media import MARK, Media, MediaKind
from runtime.engine.values.request import Prompt, PromptBuilder, TextPart
from runtime.errors import EngineError, ModelError, RequestError

# While a picture is read, some nine bytes a pixel are held at once; a large camera's has 50 million.
_MAX_PIXELS = 64_000_000
_PICTURES = (png.SIGNATURE, b"\xff\xd8\xff", b"GIF8", b"BM")
_READABLE = {
    MediaKind.PICTURE: "PNG, JPEG, GIF or BMP",
    MediaKind.SOUND: "WAV, MP3 or FLAC, of a hundredth of a second to an hour",
}


class Projector:
    """A projector for one model. `read` may be called from any thread, `encode` from one."""

    def __init__(self, model: Model, path: Path, offset: int, size: int, *, num_threads: int) -> None:
        """Load the GGUF of `size` bytes that begins at `offset` of `path`. Raises ModelError when it doesn't fit."""
        import llama_cpp.mtmd_cpp as mtmd

        self._mtmd: Any = mtmd
        self._model = model
        library = model.library
        mtmd.mtmd_helper_log_set(library.log_callback, None)
        params = mtmd.mtmd_context_params_default()
        params.media_marker = MARK.encode()
        params.n_threads = num_threads
        params.print_timings = False
        params.warmup = False
        library.forget_errors()
        with _as_file(path, offset, size) as name:
            self._handle = mtmd.mtmd_init_from_file(os.fsencode(name), model.handle, params)
        if not self._handle:
            raise ModelError(f"can't use the projector in {path} with this model: {library.why()}")
        self.kinds = frozenset(
            kind
            for kind, is_read in (
                (MediaKind.PICTURE, mtmd.mtmd_support_vision(self._handle)),
                (MediaKind.SOUND, mtmd.mtmd_support_audio(self._handle)),
            )
            if is_read
        )
        # Whether the parts of a picture see each other.
        self.sees_whole = bool(mtmd.mtmd_decode_use_non_causal(self._handle, None))
        self._has_grid = bool(mtmd.mtmd_decode_use_mrope(self._handle))
        self._vector_bytes = 4 * int(library.api.llama_model_n_embd_inp(model.handle))
        # One at a time: reading takes memory by the pixel.
        self._reading = threading.Lock()

    def close(self) -> None:
        self._mtmd.mtmd_free(self._handle)

    def read(self, parts: Sequence[TextPart], files: Sequence[bytes], param: str) -> Prompt:
        """Return the prompt of a text in parts, where each MARK stands for the next of `files`, none of them encoded.

        Raises RequestError for a file that is no picture or sound, or not one that this model reads; `param` is the
        field that they came in.
        """
        num_places = sum(part.text.count(MARK) for part in parts)
        if num_places != len(files):
            raise RequestError(
                f"the prompt has {num_places} places for pictures and sounds, but {len(files)} came with it", param
            )
        mtmd = self._mtmd
        with self._reading, ExitStack() as owned:
            bitmaps = []
            for index, data in enumerate(files):
                bitmaps.append(self._bitmap(data, f"{param}: file {index + 1}", param))
                owned.callback(mtmd.mtmd_bitmap_free, bitmaps[-1])
            chunks = mtmd.mtmd_input_chunks_init()
            owned.callback(mtmd.mtmd_input_chunks_free, chunks)
            self._model.library.forget_errors()
            inputs = list(self._inputs(parts, bitmaps))
            pointers = (ctypes.POINTER(mtmd.mtmd_input_part) * len(inputs))(*map(ctypes.pointer, inputs))
            if mtmd.mtmd_tokenize_from_parts(self._handle, chunks, pointers, len(inputs), True) != 0:
                raise RequestError(f"the prompt can't be read: {self._model.library.why()}", param)
            placing = PromptBuilder()
            for index in range(mtmd.mtmd_input_chunks_size(chunks)):
                self._place(mtmd.mtmd_input_chunks_get(chunks, index), placing)
        if placing.media and placing.media[-1].end == len(placing.tokens):
            raise RequestError("a prompt can't end with a picture or a sound; write something behind it", param)
        return Prompt(tuple(placing.tokens), tuple(placing.media))

    def _inputs(self, parts: Sequence[TextPart], bitmaps: Sequence[int]) -> Iterator[Any]:
        """Yield mtmd's `mtmd_input_part`s: texts, and in the places of MARK the bitmaps."""
        mtmd, left = self._mtmd, iter(bitmaps)
        for part in parts:
            for index, text in enumerate(part.text.split(MARK)):
                if index:
                    yield mtmd.mtmd_input_part(None, next(left))
                words = text.encode("utf-8", "surrogatepass")
                if words:
                    written = mtmd.mtmd_input_text(words, len(words), False, part.parses_special)
                    yield mtmd.mtmd_input_part(ctypes.pointer(written), None)

    def _bitmap(self, data: bytes, name: str, param: str) -> int:
        """Decode a file that errors call by `name`; whoever calls frees the result."""
        mtmd = self._mtmd
        kind = MediaKind.SOUND if _is_sound(data) else MediaKind.PICTURE
        if kind not in self.kinds:
            raise RequestError(f"{name} is a {kind.value}, which this model can't read", param)
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        is_harmless = kind is MediaKind.SOUND or self._is_harmless(data, buffer, name, param)
        bitmap = is_harmless and mtmd.mtmd_helper_bitmap_init_from_buf(self._handle, buffer, len(data), False)
        if not bitmap:
            raise RequestError(f"{name} is no {kind.value} that can be read; send {_READABLE[kind]}", param)
        mtmd.mtmd_bitmap_set_id(bitmap, hashlib.sha256(data).hexdigest().encode())
        return int(bitmap)

    def _is_harmless(self, data: bytes, picture: "ctypes.Array[ctypes.c_uint8]", name: str, param: str) -> bool:
        """Whether a file is of the kinds that are read, and to read it won't take more memory than a picture's.

        Raises RequestError for a picture that is too large.
        """
        width, height, num_channels = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        sizes = (ctypes.byref(width), ctypes.byref(height), ctypes.byref(num_channels))
        if picture_info()(picture, len(picture), *sizes) and width.value * height.value > _MAX_PIXELS:
            raise RequestError(
                f"{name} has {width.value} x {height.value} pixels, and at most {_MAX_PIXELS // 10**6} million can be "
                "read; make it smaller",
                param,
            )
        return data.startswith(_PICTURES) and not (data.startswith(png.SIGNATURE) and png.is_bomb(data))

    def _place(self, chunk: int, placing: PromptBuilder) -> None:
        mtmd = self._mtmd
        kind = mtmd.mtmd_input_chunk_get_type(chunk)
        if kind == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
            count = ctypes.c_size_t()
            tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            placing.add_text(tokens[: count.value])
            return
        num_tokens = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        whole = mtmd.mtmd_input_chunk_get_id(chunk).decode()
        num_before = sum(each.key.startswith(whole) for each in placing.media)  # other parts of the same picture
        placing.add_media(
            Media(
                key=f"{whole} {num_before} {num_tokens}",
                start=len(placing.tokens),
                num_tokens=num_tokens,
                num_positions=mtmd.mtmd_input_chunk_get_n_pos(chunk),
                is_causal=not mtmd.mtmd_decode_use_non_causal(self._handle, chunk),
                grid=self._grid(chunk, placing.position, num_tokens) if self._has_grid else b"",
                raw=_Raw(mtmd, mtmd.mtmd_input_chunk_copy(chunk)),
            )
        )

    def _grid(self, chunk: int, start: int, num_tokens: int) -> bytes:
        """Return the positions of a chunk's tokens in M-RoPE's order of sections: time, height, width, and a spare."""
        mtmd = self._mtmd
        picture = mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        if not picture:  # a sound has one dimension
            return 4 * array("i", range(start, start + num_tokens)).tobytes()
        places = (mtmd.mtmd_decoder_pos * num_tokens)()
        mtmd.mtmd_helper_image_get_decoder_pos(picture, start, places)
        sections = ([getattr(place, name) for place in places] for name in ("t", "y", "x", "z"))
        return b"".join(array("i", section).tobytes() for section in sections)

    def encode(self, media: Media) -> None:
        """Give `media` its vectors, and let its raw form go. Blocks for seconds. Raises EngineError."""
        assert isinstance(media.raw, _Raw)
        if self._mtmd.mtmd_encode_chunk(self._handle, media.raw.handle) != 0:
            raise EngineError(f"a picture could not be computed: {self._model.library.why()}")
        vectors = self._mtmd.mtmd_get_output_embd(self._handle)
        media.vectors = ctypes.string_at(vectors, media.num_tokens * self._vector_bytes)
        media.raw = None


class _Raw:
    """A picture or sound as mtmd has prepared it, freed when nothing refers to it any more."""

    def __init__(self, mtmd: Any, handle: int) -> None:
        self._mtmd = mtmd
        self.handle = handle

    def __del__(self) -> None:
        self._mtmd.mtmd_input_chunk_free(self.handle)


def _is_sound(data: bytes) -> bool:
    """Tell sounds from pictures as mtmd does, by how WAV, FLAC and MP3 begin."""
    is_mp3 = data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")
    return len(data) >= 12 and (is_mp3 or data[:4] == b"fLaC" or (data[:4] == b"RIFF" and data[8:12] == b"WAVE"))


@contextmanager
def _as_file(path: Path, offset: int, size: int) -> Iterator[str]:
    """Give a path under which a part of a file is a file of its own."""
    if offset == 0:
        yield str(path)
        return
    memory = os.memfd_create("projector")
    try:
        with path.open("rb") as file:
            while size > 0 and (count := os.sendfile(memory, file.fileno(), offset, size)):
                offset, size = offset + count, size - count
        yield f"/proc/self/fd/{memory}"
    finally:
        os.close(memory)

"""A saved slot's state, looked through before llama.cpp reads it.

llama.cpp holds counts, types and row sizes against its own cache, but takes positions and numbers as they come. A cell
at position -1 counts as free and is never freed, two at one position break the bookkeeping of their sequence for good,
and a key that is no number spoils the answers of every sequence beside it: masked scores are multiplied, too.

What `llama_kv_cache::state_write` (src/llama-kv-cache.cpp) and `llama_memory_recurrent::state_write` write, in the
machine's byte order; a model whose layers partly look back a short way has two caches, one after the other:

    cache:      num_streams u32 = 1   num_cells u32   cells   is_transposed u32   num_layers u32   keys   values
    cell:       position i32   num_sequences u32 = 1   [x i32   y i32   token i32]   sequence i32
    keys:       for each layer: type i32   row_bytes u64   rows
    values:     the same; transposed: type i32   element_bytes u32   row_elements u32   elements
    recurrent:  num_cells u32   cells: position i32   num_sequences u32 = 0   states

With no cells a cache ends after their number, which is how an empty slot's state tells how many caches there are.
"""

import struct
from mmap import mmap

_COUNTS = struct.Struct("=II")
_KEYS = struct.Struct("=iQ")
_TRANSPOSED_VALUES = struct.Struct("=iII")
_EMPTY_CACHE = (1, 0)  # streams, cells
_F16 = 1  # enum ggml_type; the only one that caches are made with
_CELL_BYTES, _CELL_BYTES_WITH_GRID = 12, 24
_RECURRENT_CELL_BYTES = 8
# The upper byte of an f16 that is infinite or none has all bits of its exponent there; of other numbers this is the
# case for none.
_UPPER_BYTES_OF_NUMBERS = bytes(byte for byte in range(256) if byte & 0x7C != 0x7C)


class _Unsound(Exception):
    """It isn't a state that a cache could have written."""


def is_sound(data: mmap | bytes, start: int, empty: bytes, *, num_tokens: int, has_grid: bool) -> bool:
    """Whether the state from `start` on is one of `num_tokens` tokens that can be put into a cache.

    `empty` is the state of an empty slot of the same context. `has_grid`: cells have places in a picture, too.
    """
    reader = _Reader(data, start)
    place = 0
    try:
        while empty[place : place + _COUNTS.size] == _COUNTS.pack(*_EMPTY_CACHE):
            _check_cache(reader, num_tokens, _CELL_BYTES_WITH_GRID if has_grid else _CELL_BYTES)
            place += _COUNTS.size
        if place < len(empty):
            _check_positions(reader, reader.numbers("=I")[0], num_tokens, _RECURRENT_CELL_BYTES)
    except _Unsound:
        return False
    return True


class _Reader:
    def __init__(self, data: mmap | bytes, position: int) -> None:
        self._data = data
        self._end = len(data)
        self.position = position

    @property
    def is_at_end(self) -> bool:
        return self.position == self._end

    def take(self, num_bytes: int, first: int = 0, step: int = 1) -> bytes:
        """Return the next bytes, or of them each `step`-th from the `first` on."""
        begin, self.position = self.position, self.position + num_bytes
        if self.position > self._end:
            raise _Unsound
        return self._data[begin + first : self.position : step]

    def numbers(self, layout: str | struct.Struct) -> tuple[int, ...]:
        found = layout if isinstance(layout, struct.Struct) else struct.Struct(layout)
        return found.unpack(self.take(found.size))


def _check_cache(reader: _Reader, num_tokens: int, cell_bytes: int) -> None:
    num_streams, num_cells = reader.numbers(_COUNTS)
    if num_streams != 1 or num_cells > num_tokens:
        raise _Unsound
    if num_cells == 0:
        return
    _check_positions(reader, num_cells, num_tokens, cell_bytes)
    is_transposed, num_layers = reader.numbers(_COUNTS)
    for _ in range(num_layers):
        kind, row_bytes = reader.numbers(_KEYS)
        _check_numbers(reader, kind, num_cells * row_bytes)
    if reader.is_at_end:  # a cache whose values are a part of its keys (multi-head latent attention)
        return
    for _ in range(num_layers):
        if is_transposed:
            kind, element_bytes, row_elements = reader.numbers(_TRANSPOSED_VALUES)
            _check_numbers(reader, kind, num_cells * element_bytes * row_elements)
        else:
            kind, row_bytes = reader.numbers(_KEYS)
            _check_numbers(reader, kind, num_cells * row_bytes)


def _check_positions(reader: _Reader, num_cells: int, num_tokens: int, cell_bytes: int) -> None:
    """Each cell has a position of its own, and the last token has a cell."""
    cells = memoryview(reader.take(num_cells * cell_bytes)).cast("i")
    positions = set(cells[:: cell_bytes // 4].tolist())
    if len(positions) < num_cells or min(positions, default=0) < 0 or max(positions, default=-1) != num_tokens - 1:
        raise _Unsound


def _check_numbers(reader: _Reader, kind: int, num_bytes: int) -> None:
    if kind != _F16 or reader.take(num_bytes, first=1, step=2).translate(None, _UPPER_BYTES_OF_NUMBERS):
        raise _Unsound

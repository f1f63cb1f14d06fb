"""What the compiled CPU backends compute, each that this processor can run, called without a model."""

import ctypes
import math
import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

LIB = Path(llama_cpp.__path__[0]) / "lib"
# These processors are older than kernels/tiles.h asks for, and ggml's own tiles for them sum in another order.
WITHOUT_TILES = ("x64", "sse42", "sandybridge", "ivybridge", "piledriver")
TYPES = {"Q4_1": 3, "Q8_0": 8}  # enum ggml_type
F32, F16 = 0, 1


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def backends() -> list[str]:
    ctypes.CDLL(str(LIB / "libggml-base.so.0"), mode=ctypes.RTLD_GLOBAL)
    found = []
    for path in sorted(LIB.glob("libggml-cpu-*.so")):
        has_tiles = not path.stem.endswith(WITHOUT_TILES)
        if has_tiles and ctypes.CDLL(str(path)).ggml_backend_score() > 0:
            found.append(path.name)
    return found


class Ggml:
    """Just enough of ggml to multiply two matrices, and to attend."""

    def __init__(self, backend: str) -> None:
        self._base: Any = ctypes.CDLL(str(LIB / "libggml-base.so.0"))
        self._cpu: Any = ctypes.CDLL(str(LIB / backend))
        self._base.ggml_init.argtypes = [InitParams]
        for name in ("init", "new_tensor", "mul_mat", "flash_attn_ext", "new_graph", "get_data"):
            getattr(self._base, f"ggml_{name}").restype = ctypes.c_void_p
        self._cpu.ggml_cpu_init()
        self._context = ctypes.c_void_p(self._base.ggml_init(InitParams(1 << 24, None, False)))

    def close(self) -> None:
        self._base.ggml_free(self._context)

    def multiply(self, type_name: str, rows: list[list[float]], columns: list[list[float]]) -> list[list[float]]:
        """Return the products of each column with all rows, whose numbers are quantized first."""
        width, base = len(rows[0]), self._base
        weights = self._new(TYPES[type_name], width, len(rows))
        flat = [number for row in rows for number in row]
        source = (ctypes.c_float * len(flat))(*flat)
        start, num_rows, row_size = ctypes.c_int64(0), ctypes.c_int64(len(rows)), ctypes.c_int64(width)
        target = ctypes.c_void_p(base.ggml_get_data(weights))
        base.ggml_quantize_chunk(TYPES[type_name], source, target, start, num_rows, row_size, None)
        activations = self._new(F32, width, len(columns))
        self._fill(activations, "f", [number for column in columns for number in column])
        product = ctypes.c_void_p(base.ggml_mul_mat(self._context, weights, activations))
        return self._compute(product, len(rows), len(columns))

    def attend(
        self,
        queries: list[list[float]],
        cells: list[tuple[list[float], list[float]]],
        masks: list[list[bool]],
        scale: float | None = None,
        num_heads: int = 1,
        num_kv_heads: int = 1,
        num_threads: int = 2,
    ) -> list[list[float]]:
        """Return what each query finds in a cache of keys and values; it sees the cells that its mask has False for.

        `queries` are those of the first head, then those of the next, and so are `cells`; what is found is told query
        by query.
        """
        width, num_cells = len(queries[0]), len(cells) // num_kv_heads
        query = self._new(F32, width, len(queries) // num_heads, num_heads)
        keys, values = (self._new(F16, width, num_cells, num_kv_heads) for _ in range(2))
        mask = self._new(F16, num_cells, len(masks))
        self._fill(query, "f", [number for row in queries for number in row])
        self._fill(keys, "e", [number for key, _value in cells for number in key])
        self._fill(values, "e", [number for _key, value in cells for number in value])
        self._fill(mask, "e", [-math.inf if is_hidden else 0.0 for row in masks for is_hidden in row])
        numbers = (ctypes.c_float(number) for number in (scale or width**-0.5, 0.0, 0.0))  # scale, ALiBi, soft cap
        found = self._base.ggml_flash_attn_ext(self._context, query, keys, values, mask, *numbers)
        return self._compute(ctypes.c_void_p(found), width, len(queries), num_threads)

    def _fill(self, tensor: ctypes.c_void_p, kind: str, numbers: list[float]) -> None:
        data = struct.pack(f"{len(numbers)}{kind}", *numbers)
        ctypes.memmove(self._base.ggml_get_data(tensor), data, len(data))

    def _compute(self, tensor: ctypes.c_void_p, width: int, height: int, num_threads: int = 2) -> list[list[float]]:
        graph = ctypes.c_void_p(self._base.ggml_new_graph(self._context))
        self._base.ggml_build_forward_expand(graph, tensor)
        assert self._cpu.ggml_graph_compute_with_ctx(self._context, graph, num_threads) == 0
        out = (ctypes.c_float * (width * height)).from_address(self._base.ggml_get_data(tensor))
        return [list(out[index * width : (index + 1) * width]) for index in range(height)]

    def _new(self, ggml_type: int, *sizes: int) -> ctypes.c_void_p:
        shape = (ctypes.c_int64 * len(sizes))(*sizes)
        return ctypes.c_void_p(self._base.ggml_new_tensor(self._context, ggml_type, len(sizes), shape))


@pytest.fixture(params=backends())
def ggml(request: pytest.FixtureRequest) -> Iterator[Ggml]:
    library = Ggml(request.param)
    yield library
    library.close()


def matrix(num_rows: int, width: int, seed: int) -> list[list[float]]:
    source = random.Random(seed)
    return [[source.gauss(0, 1) for _ in range(width)] for _ in range(num_rows)]


@pytest.mark.parametrize("num_rows", [8, 37])  # whole tiles, and some that are not
@pytest.mark.parametrize("type_name", TYPES)
def test_columns_multiplied_together_give_what_each_gives_alone(ggml: Ggml, type_name: str, num_rows: int) -> None:
    rows = matrix(num_rows, 96, seed=1)
    for num_columns in (2, 3, 4, 5, 17):
        columns = matrix(num_columns, 96, seed=num_columns)
        together = ggml.multiply(type_name, rows, columns)
        assert together == [ggml.multiply(type_name, rows, [column])[0] for column in columns]


@pytest.mark.parametrize("type_name", TYPES)
def test_products_of_rows_together_are_those_of_each_alone(ggml: Ggml, type_name: str) -> None:
    """A single row is fewer than a tile has, so ggml computes it."""
    rows = matrix(13, 160, seed=13)
    for num_columns in (1, 2):
        columns = matrix(num_columns, 160, seed=14)
        alone = [[ggml.multiply(type_name, [row], [column])[0][0] for row in rows] for column in columns]
        assert ggml.multiply(type_name, rows, columns) == alone


@pytest.mark.parametrize("type_name", TYPES)
def test_products_are_near_those_of_exact_numbers(ggml: Ggml, type_name: str) -> None:
    rows, columns = matrix(16, 96, seed=2), matrix(4, 96, seed=3)
    for column, found in zip(columns, ggml.multiply(type_name, rows, columns), strict=True):
        exact = [sum(a * b for a, b in zip(row, column, strict=True)) for row in rows]
        # 4 bits a weight: the errors of 96 products add up to about 1.
        assert found == pytest.approx(exact, abs=4.0)
        assert max(map(abs, exact)) > 10


@pytest.mark.parametrize("width", [32, 64])  # ggml computes one of them, kernels/attention.h the other
@pytest.mark.parametrize("first", [0, 1, 30])  # so that runs of hidden cells begin and end anywhere
def test_hidden_cells_are_as_if_they_were_not_there(ggml: Ggml, first: int, width: int) -> None:
    runs = [(first, False), (31, True), (1, False), (32, True), (2, False), (97, True), (5, False), (64, True)]
    hidden = [is_hidden for length, is_hidden in runs for _ in range(length)]
    keys, values = matrix(len(hidden), width, seed=4), matrix(len(hidden), width, seed=5)
    cells = list(zip(keys, values, strict=True))
    seen = [cell for cell, is_hidden in zip(cells, hidden, strict=True) if not is_hidden]
    queries = matrix(2, width, seed=6)
    found = ggml.attend(queries, cells, [hidden, hidden])
    assert found == ggml.attend(queries, seen, [[False] * len(seen)] * 2)


@pytest.mark.parametrize("num_threads", [2, 5])
@pytest.mark.parametrize("places", [range(1024, 1536), range(1, 1536, 3), random.Random(3).sample(range(1536), 512)])
def test_attention_is_cut_into_parts_by_the_cells_that_are_seen(
    ggml: Ggml, places: Sequence[int], num_threads: int
) -> None:
    keys, values = matrix(1536, 32, seed=7), matrix(1536, 32, seed=8)
    cells = list(zip(keys, values, strict=True))
    query = matrix(1, 32, seed=9)
    found = ggml.attend(query, cells, [[place not in places for place in range(1536)]], num_threads=num_threads)
    # Sums of the same parts are equal to the last bit, those of others aren't.
    seen = [cells[place] for place in sorted(places)]
    assert found == ggml.attend(query, seen, [[False] * 512], num_threads=num_threads)


@pytest.mark.parametrize("num_threads", [1, 2, 5, 8])  # and some have no cells
@pytest.mark.parametrize("num_seen", [256, 257, 300, 511, 512])
def test_each_cell_that_is_seen_counts_once(ggml: Ggml, num_seen: int, num_threads: int) -> None:
    keys = matrix(1024, 32, seed=7)
    values = [[float(place // 2 % 32 == number) for number in range(32)] for place in range(1024)]
    hidden = [place % 2 == 1 or place >= 2 * num_seen for place in range(1024)]
    # What asks for nothing finds as much of each: sums of whole numbers, which are exact.
    found = ggml.attend([[0.0] * 32], list(zip(keys, values, strict=True)), [hidden], num_threads=num_threads)
    counts = [len(range(number, num_seen, 32)) for number in range(32)]
    assert found[0] == pytest.approx([count / num_seen for count in counts], rel=1e-6)


def test_few_cells_are_not_cut_however_large_the_cache_is(ggml: Ggml) -> None:
    keys, values = matrix(1536, 32, seed=7), matrix(1536, 32, seed=8)
    cells = list(zip(keys, values, strict=True))
    query = matrix(1, 32, seed=9)
    hidden = [place % 7 > 0 for place in range(1536)]
    # What several queries see is never cut.
    assert ggml.attend(query, cells, [hidden]) == ggml.attend(query * 2, cells, [hidden] * 2)[:1]


def by_ggml(
    ggml: Ggml, queries: list[list[float]], cells: list[tuple[list[float], list[float]]], masks: list[list[bool]]
) -> list[list[float]]:
    """The same with more numbers, which are of no effect, and as many as ggml itself computes."""

    def wider(row: list[float]) -> list[float]:
        return [*row, *[0.0] * 32]

    width = len(queries[0])
    wider_cells = [(wider(key), wider(value)) for key, value in cells]
    found = ggml.attend([wider(query) for query in queries], wider_cells, masks, scale=width**-0.5)
    return [row[:width] for row in found]


@pytest.mark.parametrize("size", [1, 40])  # of scores: some units apart, or so far that cells weigh nothing
@pytest.mark.parametrize("num_cells", [5, 700])
@pytest.mark.parametrize("width", [64, 128])
def test_attention_sums_in_ggmls_order(ggml: Ggml, width: int, num_cells: int, size: int) -> None:
    cells = list(zip(matrix(num_cells, width, seed=10), matrix(num_cells, width, seed=11), strict=True))
    queries = [[size * number for number in matrix(1, width, seed=12)[0]]]
    hidden = [[index % 7 == 3 for index in range(num_cells)]]
    assert ggml.attend(queries, cells, hidden) == by_ggml(ggml, queries, cells, hidden)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [3, 20])  # in the first eight cells, and behind
def test_attention_hides_nothing_that_went_wrong(ggml: Ggml, place: int, bad: float) -> None:
    cells = list(zip(matrix(40, 64, seed=10), matrix(40, 64, seed=11), strict=True))
    cells[place][0][5] = bad
    queries, hidden = matrix(1, 64, seed=12), [[False] * 40]
    assert str(ggml.attend(queries, cells, hidden)) == str(by_ggml(ggml, queries, cells, hidden))


@pytest.mark.parametrize("num_cells", [5, 300, 700])
@pytest.mark.parametrize(
    ("width", "num_heads", "num_kv_heads", "num_queries"),
    [(64, 3, 1, 1), (64, 9, 3, 2), (64, 6, 2, 3), (64, 14, 2, 2), (128, 7, 1, 1), (128, 8, 4, 2)],
)
def test_heads_together_find_what_each_finds_alone(
    ggml: Ggml, width: int, num_heads: int, num_kv_heads: int, num_queries: int, num_cells: int
) -> None:
    num_in_all = num_cells * num_kv_heads
    cells = list(zip(matrix(num_in_all, width, seed=15), matrix(num_in_all, width, seed=16), strict=True))
    queries = matrix(num_heads * num_queries, width, seed=17)
    masks = [[place % 5 == query for place in range(num_cells)] for query in range(num_queries)]
    found = ggml.attend(queries, cells, masks, num_heads=num_heads, num_kv_heads=num_kv_heads)
    for head in range(num_heads):
        of_head = queries[head * num_queries : (head + 1) * num_queries]
        first = head * num_kv_heads // num_heads * num_cells
        assert found[head::num_heads] == ggml.attend(of_head, cells[first : first + num_cells], masks)

"""What a model needs of this computer's memory, and what the computer has; all in bytes.

llama.cpp allocates the KV cache in one piece and fills it, so a context that is too long ends a program in the middle
of its start, or the whole computer's responsiveness with it. The weights are another matter: they are mapped from
their file, and what doesn't fit is read again and again, which is slow but no end. Hence two limits: the cache and the
buffers must fit into what is free, and everything together into what the computer has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.engine.values.facts import ModelShape
from runtime.errors import NotEnoughMemory

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_KV_ELEMENT_BYTES = 2  # f16
_MASK_ELEMENT_BYTES = 2  # one for each token of a step and cell
_LEAST_N_CTX = 512
_PROJECTING_BYTES = 256 * 1024 * 1024  # unmeasured: it depends on the projector and on the pictures' size


@dataclass(frozen=True, slots=True)
class Memory:
    """A computer's, or its container's: all there is, and what can be had now without taking it from others."""

    total: int
    free: int


def context_bytes(shape: ModelShape, n_ctx: int, n_batch: int, num_slots: int) -> int:
    """Return about how much a context allocates: the KV cache, a step's buffers, the logits."""
    cache = n_ctx * shape.num_kv_elements * _KV_ELEMENT_BYTES
    activations = n_batch * (2 * shape.n_ff + 8 * shape.n_embd) * 4 + n_batch * n_ctx * _MASK_ELEMENT_BYTES
    return cache + activations + num_slots * shape.n_vocab * 4


def choose_n_ctx(
    wanted: int | None,
    default: int,
    shape: ModelShape,
    memory: Memory | None,
    *,
    n_batch: int,
    num_slots: int,
    projector_bytes: int = 0,
) -> int:
    """Return the tokens of context: those wanted (0 is the model's maximum), else `default` or what fits of it.

    A projector is read into memory, not mapped, and takes some to compute with. Raises NotEnoughMemory, with a number
    that fits if there is one. With `memory` None (the system reports none) everything fits.
    """

    def allocated(n_ctx: int) -> int:
        beside = projector_bytes + _PROJECTING_BYTES if projector_bytes else 0
        return beside + context_bytes(shape, n_ctx, n_batch, num_slots)

    def can_run(n_ctx: int) -> bool:
        return memory is None or (
            allocated(n_ctx) <= memory.free and shape.weights_bytes + allocated(n_ctx) <= memory.total
        )

    def is_comfortable(n_ctx: int) -> bool:
        return memory is None or shape.weights_bytes + allocated(n_ctx) <= memory.free

    if wanted is None:
        best = min(default, shape.n_ctx_train)
        chosen = next((n_ctx for n_ctx in _halves(best) if is_comfortable(n_ctx)), best)
    else:
        chosen = wanted or shape.n_ctx_train
    if memory is not None and not can_run(chosen):
        fitting = next((n_ctx for n_ctx in _halves(chosen) if n_ctx < chosen and can_run(n_ctx)), None)
        raise NotEnoughMemory(shape.weights_bytes + allocated(chosen), memory.free, chosen, fitting)
    return chosen


def _halves(n_ctx: int) -> Iterator[int]:
    """Yield the number itself, then powers of two below it."""
    yield n_ctx
    power = 1 << max(n_ctx - 1, 1).bit_length() - 1
    while power >= _LEAST_N_CTX:
        yield power
        power //= 2


def read_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> Memory | None:
    """Return what Linux says of memory (proc(5)) within the limit of the cgroup (v2, else v1); None where it doesn't.

    A cgroup's page cache counts as free: it is given back when it is needed.
    """
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    for folder, limit_name, used_name, cache_name in (
        (cgroup, "memory.max", "memory.current", "file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ):
        try:
            limit = int((folder / limit_name).read_text())
            used = int((folder / used_name).read_text())
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such cgroup, or "max"
            continue
        cached = int(statistics.get(cache_name, 0))
        total, free = min(total, limit), min(free, limit - used + cached)
        break
    return Memory(total, max(free, 0))

"""Runs models that nobody would write through the program, or the bundler, and reports those that end or stall it.

    python tests/mutants.py --count 20000 --through runtime --seed 1

Each mutant (`gguf_mutants.py`) is first used in a child as `-m` has it, or read and then used as `holdall build` has
it. What is accepted there is loaded and served as the program serves it, and asked what its clients ask. That server's
death by a signal, 20 seconds without an end, 500 MB beside the file, and answers of status 500 are reported.
`--only NUMBER --keep FILE` makes one of them again.

The child and the server are forks of one process that has llama.cpp loaded already, so that a mutant takes some 50 ms.
"""

import argparse
import asyncio
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have no threads

import httpx  # noqa: E402 (the path above comes first)

from bundler.bundle.gguf import read_facts  # noqa: E402
from bundler.errors import GGUFError  # noqa: E402
from runtime.engine.engine import Engine  # noqa: E402
from runtime.engine.loading import Parts, load  # noqa: E402
from runtime.engine.native import Library  # noqa: E402
from runtime.errors import HoldallError  # noqa: E402
from runtime.extent import Extent  # noqa: E402
from runtime.program import first_use, settings, trial  # noqa: E402
from runtime.program.life import _load_params  # noqa: E402
from tests import tiny_models  # noqa: E402
from tests.gguf_mutants import mutant  # noqa: E402
from tests.serving import make_app  # noqa: E402

MAX_SECONDS = 20.0
MAX_BYTES = 500 << 20
SERVER_DATA_BYTES = 3 << 30  # no mutant is to take the whole computer
MESSAGES = [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "Hello <s> wörld 👩‍🚀\x00"}]
FEW = {"max_tokens": 3, "n_predict": 3}
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/tokenize", {"content": "Hello <s> wörld 👩‍🚀\x00", "add_special": True, "with_pieces": True}),
    ("/detokenize", {"tokens": [0, 1, 2, 3, 100]}),
    ("/completion", {"prompt": "Once upon a time", **FEW}),
    ("/completion", {"prompt": "", **FEW}),
    ("/completion", {"prompt": [1, 2, 3], "n_probs": 3, "temperature": 1.5, "seed": 1, **FEW}),
    ("/completion", {"prompt": "Once " * 100, "temperature": 0, "repeat_penalty": 1.2, "dry_multiplier": 1, **FEW}),
    ("/completion", {"prompt": "a", "grammar": 'root ::= "yes" | "no"', **FEW}),
    ("/completion", {"prompt": "a", "json_schema": {"type": "object"}, "ignore_eos": True, **FEW}),
    ("/completion", {"prompt": "a", "mirostat": 2, "logit_bias": [["the", 2]], **FEW}),
    ("/v1/chat/completions", {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, **FEW}),
    ("/infill", {"input_prefix": "def f(", "input_suffix": "return", **FEW}),
    ("/apply-template", {"messages": MESSAGES}),
    ("/v1/embeddings", {"input": ["one", "two words", "Once " * 40]}),
    ("/v1/rerank", {"query": "sea", "documents": ["lamp", "cat dog"]}),
    ("/api/show", {"model": "scripted"}),
)


@dataclass(frozen=True)
class Ended:
    """How a fork ended."""

    answer: bytes
    status: int
    words: str
    seconds: float
    max_bytes: int
    is_late: bool

    def __str__(self) -> str:
        if self.is_late:
            return f"no end in {self.seconds:.0f} s"
        code = os.waitstatus_to_exitcode(self.status)
        return f"{signal.Signals(-code).name if code < 0 else f'status {code}'} ({self.words})"


def in_a_fork(work: Callable[[], bytes], *, data_bytes: int) -> Ended:
    """Do something in a fork of this process, which may take `data_bytes` of memory of its own."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answer:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
                os.write(answer.fileno(), work())
                status = 0
            except BaseException as error:
                os.write(2, f"\n{error!r}\n".encode())
            finally:
                os._exit(status)
        watched = os.pidfd_open(pid)
        is_late = not select.select([watched], [], [], MAX_SECONDS)[0]
        if is_late:
            os.kill(pid, signal.SIGKILL)
        os.close(watched)
        _pid, status, usage = os.wait4(pid, 0)
        said.seek(0)
        answer.seek(0)
        lines = [line.strip() for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
        taken = time.monotonic() - begun
        return Ended(answer.read(), status, " ".join(lines[-2:])[-300:], taken, usage.ru_maxrss * 1024, is_late)


def try_first(path: Path) -> bytes:
    """Use a model as the child of a trial does."""
    size = path.stat().st_size
    request = {**trial.NO_COMPANIONS, "weights": [str(path), 0, size], "is_sandboxed": True}
    return first_use.use(json.dumps(request).encode())


def serve(path: Path) -> bytes:
    """Load and serve a model as the program does, ask it everything, and return what went wrong of it."""
    chosen = settings.read(["-m", str(path)])
    return asyncio.run(_serve(Parts(weights=Extent(path, 0, path.stat().st_size)), _load_params(chosen)))


async def _serve(parts: Parts, params: Any) -> bytes:
    loop = asyncio.get_running_loop()
    try:
        engine: Engine = await asyncio.to_thread(load, parts, params, loop.call_soon_threadsafe)
    except HoldallError as error:
        return f"refused by the server: {error}".encode("utf-8", "replace")
    wrong = []
    transport = httpx.ASGITransport(make_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=MAX_SECONDS) as client:
        for path, body in REQUESTS:
            response = await client.post(path, json=body)
            if response.status_code >= 500 and response.status_code != 501:
                wrong.append(f"{path}: {response.status_code} {response.text[:200]}")
    return "\n".join(wrong[:2]).encode()


def run(path: Path, *, through: str) -> tuple[str, str]:
    """Return what became of a mutant, as a short word, and the words for it."""
    size = path.stat().st_size
    if through == "build":
        try:
            read_facts(path)
        except GGUFError as error:
            return "refused by its header", str(error)
    tried = in_a_fork(lambda: try_first(path), data_bytes=trial.MEMORY_BYTES_BESIDE_FILES + size)
    if tried.is_late or tried.status:
        return "refused: the child ended", str(tried)
    if tried.answer:
        return "refused", tried.answer.decode()
    served = in_a_fork(lambda: serve(path), data_bytes=SERVER_DATA_BYTES)
    if served.is_late or served.status:
        return "ENDED THE SERVER", str(served)
    if served.max_bytes > MAX_BYTES + size + _own_bytes():
        return "TOOK MUCH MEMORY", f"{served.max_bytes >> 20} MB"
    if served.answer.startswith(b"refused by the server"):
        return "REFUSED LATE", served.answer.decode()
    return ("STATUS 500", served.answer.decode()) if served.answer else ("served", "")


def _own_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bases(folder: Path, stories: Path) -> list[bytes]:
    """Return the good models that mutants are made from: a llama, encoders, and one whose layers see a window."""
    encoder = tiny_models.write_encoder(folder / "encoder.gguf")
    ranker = tiny_models.write_encoder(folder / "ranker.gguf", ranks=True)
    windowed = tiny_models.write_windowed(folder / "windowed.gguf", window=16)
    return [path.read_bytes() for path in (stories, stories, encoder, ranker, windowed)]


def warm_up() -> None:
    """Load what every fork needs."""
    import llama_cpp.mtmd_cpp  # noqa: F401
    import llguidance._lib  # noqa: F401

    Library()


def results(
    good: Sequence[bytes], seed: int, numbers: Sequence[int], folder: Path, through: str
) -> Iterator[tuple[int, str, str, str]]:
    """Yield of each mutant its number, what was changed, what became of it, and the words for that."""
    path = folder / "mutant.gguf"
    for number in numbers:
        data, changed = mutant(good, seed, number)
        path.write_bytes(data)
        yield (number, changed, *run(path, through=through))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--through", choices=("runtime", "build"), default="runtime")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=ROOT.parent / "shared/data/stories260K.gguf")
    chosen = parser.parse_args()
    numbers = range(chosen.first, chosen.first + chosen.count) if chosen.only is None else [chosen.only]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        good = bases(folder, chosen.model)
        warm_up()
        if chosen.keep:
            chosen.keep.write_bytes(mutant(good, chosen.seed, numbers[0])[0])
        for number, changed, became, why in results(good, chosen.seed, numbers, folder, chosen.through):
            counts[became] += 1
            if became.isupper() or chosen.only is not None or became == "refused: the child ended":
                sys.stdout.write(f"{number}: {became}: {why!r} [{changed}]\n")
                sys.stdout.flush()
    sys.stdout.write(f"seed {chosen.seed}, {len(numbers)} through {chosen.through}: {dict(counts)}\n")
    return int(any(became.isupper() for became in counts))


if __name__ == "__main__":
    sys.exit(main())

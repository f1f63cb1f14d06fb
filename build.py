#!/usr/bin/env python3
"""Make the environment, then run the bundler or the tests.

    python3 build.py                  build the default model into dist/
    python3 build.py build MODEL ...  build another; the same as `holdall build MODEL ...`
    python3 build.py test ...         check and test; what follows goes to pytest
    python3 build.py bench ...        measure the default bundle; --peer LLAMA_SERVER measures that beside it

Needs nothing but Python, 3.10 or newer: the dependencies, the compiler among them, come from PyPI into `.venv`.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
STAMP = VENV / "holdall-stamp"
PYTHON = VENV / "bin" / "python"
LOG = ROOT / "build" / "environment.log"

OLDEST_PYTHON = (3, 10)
CHECKED = ("build.py", "benchmarks", "bundler", "runtime", "tests")
BENCHMARKS = ("serving.py", "first_token.py", "busy.py", "grammars.py")


class CannotBuild(Exception):
    """Something is missing on this machine or a step failed; the text says what to do."""


def main(words: list[str]) -> int:
    try:
        if words[:1] in (["-h"], ["--help"]):
            print(__doc__)
            return 0
        if words and words[0] not in ("build", "test", "bench"):
            raise CannotBuild(f"unknown command {words[0]!r}; there are build, test and bench; see --help")
        check_machine()
        make_environment()
        if words[:1] == ["test"]:
            return test(words[1:])
        if words[:1] == ["bench"]:
            return bench(words[1:])
        return run([PYTHON, "-m", "bundler", *(words or ["build"])])
    except CannotBuild as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def check_machine() -> None:
    """Name what is missing, with the command that installs it, before anything is begun."""
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        raise CannotBuild(f"Python {wanted} or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise CannotBuild(f"Python's venv module is missing; install it: apt-get install {package}")
    if not LOCK.is_file():
        raise CannotBuild(f"{LOCK} is missing; is this a complete checkout?")


def make_environment() -> None:
    """Make `.venv` as the lock says, unless one is there that was finished with the same inputs.

    One of ours that is half-made or of another lock is made anew; one that somebody else made is never touched.
    """
    stamp = stamp_of_inputs()
    if STAMP.is_file() and STAMP.read_text() == stamp:
        return
    if VENV.exists() and not STAMP.is_file():
        raise CannotBuild(f"{VENV} was not made by build.py and won't be replaced; move it away and try again")
    shutil.rmtree(VENV, ignore_errors=True)
    # First of all, so that a half-made environment is known as ours.
    VENV.mkdir()
    STAMP.write_text("unfinished")
    run_showing("making .venv", [sys.executable, "-m", "venv", VENV])
    pip: list[str | Path] = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    run_showing("installing the dependencies", [*pip, "--require-hashes", "--no-deps", "-r", LOCK])
    run_showing("installing holdall", [*pip, "--no-deps", "--no-build-isolation", "--no-index", "--editable", ROOT])
    STAMP.write_text(stamp)


def stamp_of_inputs() -> str:
    """What an environment depends on: the lock, the project's own metadata, Python, and where it lies."""
    digest = hashlib.sha256()
    for given in (LOCK.read_bytes(), PROJECT.read_bytes(), sys.version.encode(), sys.executable.encode(), bytes(ROOT)):
        digest.update(hashlib.sha256(given).digest())
    return digest.hexdigest()


def test(pytest_arguments: list[str]) -> int:
    """Run every check even when one fails; the first failure's status is the result."""
    # `import llama_cpp` in tests finds the libraries that bundles carry.
    status = run([PYTHON, "-m", "bundler.llamacpp.development"])
    if status != 0:
        return status
    checks: tuple[list[str | Path], ...] = (
        [PYTHON, "-m", "ruff", "check", *CHECKED],
        [PYTHON, "-m", "ruff", "format", "--check", *CHECKED],
        [PYTHON, "-m", "mypy"],
        [PYTHON, "-m", "pytest", *pytest_arguments],
    )
    statuses = []
    for check in checks:
        print(f"$ {' '.join(map(str, check[2:]))}", file=sys.stderr, flush=True)
        statuses.append(run(check))
    return next((status for status in statuses if status != 0), 0)


def bench(arguments: list[str]) -> int:
    """Build the default bundle and run every comparison with these arguments; stop at the first that fails."""
    bundle = ROOT / "dist" / "bench" / "SmolLM2-135M-Instruct"
    commands: list[list[str | Path]] = [[PYTHON, "-m", "bundler", "build", "--quiet", "-o", bundle]]
    commands += [[PYTHON, ROOT / "benchmarks" / name, bundle, *arguments] for name in BENCHMARKS]
    for command in commands:
        print(f"$ {' '.join(map(str, command[1:]))}", file=sys.stderr, flush=True)
        status = run(command)
        if status != 0:
            return status
    return 0


def run(command: Sequence[str | Path]) -> int:
    """Run a command whose output is its own; return its exit status as a shell would."""
    process = subprocess.Popen(command, cwd=ROOT)
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            continue  # the command got it too, and ends in its own way
        return status if status >= 0 else 128 - status


def run_showing(label: str, command: Sequence[str | Path]) -> None:
    """Run a long command, its output in a log, and show its last line and the time it has taken."""
    started = time.monotonic()
    is_live = sys.stderr.isatty()
    if not is_live:
        print(f"{label} ...", file=sys.stderr, flush=True)
    LOG.parent.mkdir(exist_ok=True)
    width = shutil.get_terminal_size().columns
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if is_live:
                shown = f"{label} ({time.monotonic() - started:.0f} s): {line.strip()}"[: width - 1]
                print(f"\r\033[K{shown}", end="", file=sys.stderr, flush=True)
    if is_live:
        print("\r\033[K", end="", file=sys.stderr)
    if process.returncode != 0:
        raise CannotBuild(f"{label} failed; the log is {LOG}")
    print(f"{label}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

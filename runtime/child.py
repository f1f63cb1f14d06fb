"""Our own program started once more, as a process that may crash, grow or hang in the place of this one.

The caller names a function of ours, `module:function`, that takes bytes and returns bytes. The child imports it and
answers one request after another until its standard input ends. Requests and answers are a length (u64, little endian)
and as many bytes; what anything else in the child prints goes to its standard error, whose last lines are kept.

A child never outlives its parent. One that waits sees the end of its input. One that works has asked the kernel for a
signal when that pipe is closed (O_ASYNC, whose signal ends a process): no thread of its own could do that while C code
keeps Python's lock, and PR_SET_PDEATHSIG would end it with the thread that started it.
"""

import contextlib
import importlib
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias

Task: TypeAlias = Callable[[bytes], bytes]

WORD = "@child"  # the first word of its command line: neither a flag nor a value of one
_LENGTH = struct.Struct("<Q")
_HELLO = b"holdall"  # the first message from a child: whatever ends before it never came to its work
_MAX_MESSAGE_BYTES = 1 << 30  # more is no message of ours
_NUM_LAST_LINES = 2
_MAX_LINE_BYTES = 1000
_NO_LIMIT = 0
_SECONDS_TO_END = 2.0
_SECONDS_TO_START = 60.0  # a frozen program unpacks itself first


class ChildEnded(Exception):
    """A child that ended instead of answering; `how` is "ended with SIGABRT" or the like, the words are its last."""

    def __init__(self, how: str, last_words: str, *, has_started: bool, is_late: bool) -> None:
        super().__init__(how + (f" ({last_words})" if last_words else ""))
        self.how = how
        self.last_words = last_words
        self.has_started = has_started
        self.is_late = is_late


class Child:
    """A process that carries out one function. One request at a time; `kill` from any thread."""

    def __init__(self, task: str, *, memory_bytes: int = _NO_LIMIT, program: Sequence[str] = ()) -> None:
        """Start it, with at most `memory_bytes` of memory of its own (maps of files aside) where the system can.

        `program` is the command that starts the program, by default this one's. Raises OSError when there is none.
        """
        self._process = subprocess.Popen(
            [*(program or own_program()), WORD, task, str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(os.environ),
        )
        self._lines: deque[bytes] = deque(maxlen=_NUM_LAST_LINES)
        self._listener: threading.Thread | None = None
        self._has_started = False

    def ask(self, request: bytes, timeout_seconds: float) -> bytes:
        """Return the answer to a request. Blocks. Raises ChildEnded, also when the time is up: then it is killed."""
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, name="child", daemon=True)
            self._listener.start()
        if not self._has_started:
            if self._within(_SECONDS_TO_START, b"") != _HELLO:
                raise self._ended()
            self._has_started = True
        answer = self._within(timeout_seconds, _framed(request))
        if answer is None:
            raise self._ended()
        return answer

    def kill(self) -> None:
        """End it at once; who waits for its answer hears so.

        Not by a signal of ours, which the sandbox forbids; and SIGKILL would keep the bootloader of a bundle from
        removing what it has unpacked.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a request that it never read
            self._process.stdin.close()

    def close(self) -> None:
        """End it and free what it takes here."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a large model takes its time to be given back
            self._status()
        self._hear_the_last()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _within(self, seconds: float, data: bytes) -> bytes | None:
        """Send bytes and return the next message; None when the child has ended, as it has when the time is up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._is_late = False
        clock = threading.Timer(seconds, self._run_out)
        clock.daemon = True
        clock.start()
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
            return _message(self._process.stdout)
        except (OSError, ValueError):  # it has ended, or was killed meanwhile
            return None
        finally:
            clock.cancel()

    def _run_out(self) -> None:
        self._is_late = True
        self.kill()

    def _status(self) -> int:
        """Return how it ended, which it does at once or soon: its output ends a moment before itself."""
        try:
            return self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:  # one that speaks another language is none of ours
            with contextlib.suppress(PermissionError):  # in the sandbox there are only ours
                self._process.kill()
            return self._process.wait(_SECONDS_TO_END)

    def _ended(self) -> ChildEnded:
        try:
            how = f"ended with {_how(self._status())}"
        except subprocess.TimeoutExpired:
            how = "doesn't end"
        self._hear_the_last()
        words = " ".join(line.decode("utf-8", "replace").strip() for line in self._lines)
        how = "gave no answer in time" if self._is_late else how
        return ChildEnded(how, words, has_started=self._has_started, is_late=self._is_late)

    def _hear_the_last(self) -> None:
        if self._listener is not None:
            self._listener.join(_SECONDS_TO_END)

    def _listen(self) -> None:
        """Keep the last lines that it prints."""
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            while line := self._process.stderr.readline(_MAX_LINE_BYTES):
                if line.strip():
                    self._lines.append(line)


def own_program() -> list[str]:
    """Return the command that starts this program: a bundle is its own, elsewhere Python runs the package."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    return [sys.executable, "-m", __name__.partition(".")[0]]


def serve(task: str, memory_bytes: str) -> int:
    """Be the child: answer requests until there are no more; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which takes this process with it
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit(int(memory_bytes))
    module, _colon, function = task.partition(":")
    carry_out: Task = getattr(importlib.import_module(module), function)
    _send(answers, _HELLO)
    while (request := _message(requests)) is not None:
        with _ending_with_parent(requests):
            answer = carry_out(request)
        _send(answers, answer)
    return 0


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a child's environment: it finds the libraries and the package that this process has found."""
    folder = getattr(sys, "_MEIPASS", None)
    if folder is not None:  # PyInstaller's: where a bundle is unpacked, which its children share
        return {**environment, "LD_LIBRARY_PATH": folder}
    root = str(Path(__file__).resolve().parents[1])
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))}


def _limit(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # a system that has no such limits
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes != _NO_LIMIT:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


@contextlib.contextmanager
def _ending_with_parent(requests: IO[bytes]) -> Iterator[None]:
    """While it works, let the kernel end this process when the parent's end of the pipe closes."""
    try:
        from fcntl import F_GETFL, F_SETFL, F_SETOWN, fcntl

        flag = os.O_ASYNC
    except (ImportError, AttributeError):  # a system that has no such signal
        yield
        return
    flags = fcntl(requests, F_GETFL)
    fcntl(requests, F_SETOWN, os.getpid())
    fcntl(requests, F_SETFL, flags | flag)
    if select.select([requests], [], [], 0)[0]:  # a parent sends nothing until it has its answer: this is its end
        os._exit(1)
    try:
        yield
    finally:
        fcntl(requests, F_SETFL, flags)


def _framed(message: bytes) -> bytes:
    return _LENGTH.pack(len(message)) + message


def _send(file: IO[bytes], message: bytes) -> None:
    file.write(_framed(message))
    file.flush()


def _message(file: IO[bytes]) -> bytes | None:
    """Return the next message; None at the end."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = file.read(length) if length <= _MAX_MESSAGE_BYTES else b""
    return data if len(data) == length else None


def _how(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"

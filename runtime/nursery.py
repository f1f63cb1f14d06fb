"""Work that may never end, may take all memory or may crash is done by a child process, which can be ended.

Python can end no thread, and nothing bounds what a library allocates; a process has limits. The nursery is forked while
the program is small and has one thread, so it costs a millisecond and little memory. For each task it forks a child,
which shares everything that the nursery has prepared and is gone with its task.

A task is the name of a function, `module:function`, from bytes to bytes, which whoever starts the nursery has named: no
code is sent, and who takes over the program, which is in the sandbox, can't have the nursery, which isn't, do anything
else. Both ends of a task hold one socket. The child writes its result there; a socket that closes ends
the other side: the child when nobody waits any longer, the waiting when the child is dead. When the program dies, all
its sockets close, and no process is left behind.

Knows nothing of what the work is about.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, NoReturn

from runtime import sandbox

Work = Callable[[bytes], bytes]

_PREPARE, _TASK = b"P", b"T"
_LENGTH_BYTES = 8


class TaskFailed(Exception):
    """The child came to its limits, crashed, or was left."""


class NoTimeLeft(TaskFailed):
    """The patience was at its end before the task was."""


class NurseryGone(TaskFailed):
    """Somebody ended the nursery, and no task can be done any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a task may use: seconds of a processor, seconds on the clock, and bytes of memory beside the nursery's."""

    cpu_seconds: int
    seconds: float
    memory_bytes: int


class Patience:
    """How long somebody waits for tasks: until they leave, and no longer than `seconds` in all from the first on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._left: Future[None] = Future()

    @property
    def has_left(self) -> bool:
        return self._left.done()

    def leave(self) -> None:
        """End the task that is being waited for, and all later ones. Any thread."""
        self._left.set_result(None)

    def remaining(self) -> float:
        """Return the seconds that are left. The first call begins the waiting."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._seconds
        return self._deadline - now

    def check(self) -> None:
        """Raise NoTimeLeft when nothing that takes time may be begun."""
        if self.has_left or self.remaining() <= 0:
            raise NoTimeLeft("there is no time left")

    def when_left(self, call: Callable[[], None]) -> None:
        self._left.add_done_callback(lambda _left: call())


class Nursery:
    """The program's end. Any thread."""

    @classmethod
    def start(cls, *, preparations: Collection[str], tasks: Collection[str]) -> "Nursery":
        """Fork it, for these and no other. Call it before the program has a second thread, a socket or a secret."""
        ours, theirs = socket.socketpair()
        process_id = os.fork()
        if process_id == 0:
            ours.close()
            _tend(theirs, preparations, tasks)
        theirs.close()
        return cls(ours, process_id)

    def __init__(self, control: socket.socket, process_id: int) -> None:
        self._control = control
        self._process_id = process_id

    def prepare(self, work: str, given: bytes) -> None:
        """Have the nursery itself do something once, before any later task, which needs it. Raises TaskFailed."""
        self._begun(_PREPARE, {"work": work}, given).close()

    def run(self, work: str, given: bytes, limits: Limits, patience: Patience | None = None) -> bytes:
        """Return what a child's `work` returns. Blocks; raises TaskFailed at a limit and at the end of the patience."""
        if patience is not None:
            patience.check()
        seconds = limits.seconds if patience is None else min(limits.seconds, patience.remaining())
        with self._begun(_TASK, {"work": work, "limits": asdict(limits)}, given) as channel:
            channel.settimeout(max(seconds, 0.001))  # 0 would mean not to wait and not to fail either
            if patience is not None:
                patience.when_left(lambda: _hang_up(channel))
            try:
                return _read_bytes(channel)
            except (OSError, EOFError) as error:
                if patience is not None and not patience.has_left:
                    patience.check()
                raise TaskFailed("the child ended without a result") from error

    def close(self) -> None:
        """End it and all tasks."""
        with contextlib.suppress(OSError):  # it is gone already
            self._control.shutdown(socket.SHUT_RDWR)  # a process forked meanwhile may have it open, too
        self._control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._process_id, 0)

    def _begun(self, kind: bytes, what: dict[str, Any], given: bytes) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [kind], [theirs.fileno()])
            _write_bytes(ours, json.dumps(what).encode())
            _write_bytes(ours, given)
        except OSError as error:
            ours.close()
            raise NurseryGone("the nursery is gone") from error
        return ours


def _hang_up(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the task is done and its socket closed
        channel.shutdown(socket.SHUT_RDWR)


# -- the nursery's own process ----------------------------------------------------------------------------------------


def _tend(control: socket.socket, preparations: Collection[str], tasks: Collection[str]) -> NoReturn:
    """Prepare and fork, until the program is gone."""
    try:
        # A terminal sends these to the program as well, which decides what they mean.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries the children
        while True:
            kind, fds, _flags, _address = socket.recv_fds(control, 1, 1)
            if not kind:
                break
            for fd in fds:
                with socket.socket(fileno=fd) as channel, contextlib.suppress(OSError, EOFError):
                    # Whoever asked is gone, or there may be no more processes at the moment.
                    if kind == _PREPARE:
                        _prepare(channel, preparations)
                    elif os.fork() == 0:
                        control.close()
                        _carry_out(channel, tasks)
                        os._exit(0)
    finally:
        os._exit(0)


def _prepare(channel: socket.socket, preparations: Collection[str]) -> None:
    asked, given = json.loads(_read_bytes(channel)), _read_bytes(channel)
    if asked["work"] in preparations:
        _function(asked["work"])(given)


def _carry_out(channel: socket.socket, tasks: Collection[str]) -> None:
    asked, given = json.loads(_read_bytes(channel)), _read_bytes(channel)
    if asked["work"] not in tasks:
        return
    work = _function(asked["work"])
    _bound(Limits(**asked["limits"]))
    sandbox.enter_without_files()
    threading.Thread(target=_end_when_left, args=(channel,), daemon=True).start()
    _write_bytes(channel, work(given))


def _function(name: str) -> Work:
    module, function = name.split(":")
    found: Work = getattr(import_module(module), function)
    return found


def _end_when_left(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):
        channel.recv(1)
    os._exit(1)


def _bound(limits: Limits) -> None:
    os.nice(5)  # others' answers come first
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a library's last words are for nobody
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds))
    most = data_bytes() + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def data_bytes() -> int:
    """Return the bytes of memory that count against a task's limit: private and writable, used or only reserved."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[5]) * resource.getpagesize()


# -- both -------------------------------------------------------------------------------------------------------------


def _write_bytes(channel: socket.socket, data: bytes) -> None:
    channel.sendall(len(data).to_bytes(_LENGTH_BYTES, "little") + data)


def _read_bytes(channel: socket.socket) -> bytes:
    """Raises EOFError when the other side has closed."""
    return _read_exactly(channel, int.from_bytes(_read_exactly(channel, _LENGTH_BYTES), "little"))


def _read_exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = channel.recv(min(count - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)

"""What somebody would try from within the program; run as a script, each attempt's outcome as a line of JSON.

An outcome is the name of an error (EPERM), "done", or what an attempt returned.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime import sandbox
from runtime.sandbox import landlock, seccomp

STRANGER = os.getppid()


def _refused_with(function: Callable[[], object]) -> str:
    try:
        function()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ImportError as error:
        return str(error)
    return "done"


def _connect(family: int, kind: int, address: Any) -> Callable[[], None]:
    def connect() -> None:
        with socket.socket(family, kind) as calling:
            calling.connect(address)

    return connect


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def system_call(number: int, *arguments: int) -> None:
    """Make a system call. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(each) for each in (arguments + (0,) * 6)[:6]]
    if libc.syscall(ctypes.c_long(number), *words) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _number(name: str) -> int:
    column = ["x86_64", "aarch64"].index(os.uname().machine)
    tables = {**seccomp.REFUSED, **seccomp.OTHERS}
    number = tables[name][column]
    assert number is not None
    return number


def attempts(secret: Path, port: int, spare: socket.socket) -> dict[str, Callable[[], object]]:
    """Return what is to fail.

    `secret` is a folder with a `diary` and a `link` to it, `port` one that listens, `spare` a socket from before.
    """
    diary = secret / "diary"
    return {
        "read": lambda: diary.read_bytes(),
        "read by a link": lambda: (secret / "link").read_bytes(),
        "read by /proc": lambda: Path(f"/proc/self/root{diary}").read_bytes(),
        "list": lambda: list(secret.iterdir()),
        "write": lambda: diary.open("ab"),
        "empty": lambda: os.truncate(diary, 0),
        "make": lambda: (secret / "new").write_bytes(b""),
        "make a folder": lambda: (secret / "new").mkdir(),
        "make a link": lambda: (secret / "new").symlink_to("diary"),
        "make a hard link": lambda: os.link(diary, secret / "new"),
        "make a fifo": lambda: os.mkfifo(secret / "new"),
        "delete": lambda: diary.unlink(),
        "rename": lambda: diary.rename(secret / "new"),
        "delete a folder": lambda: (secret / "folder").rmdir(),
        "change the rights": lambda: diary.chmod(0o777),
        "change the owner": lambda: os.chown(diary, os.getuid(), os.getgid()),
        "change an attribute": lambda: os.setxattr(diary, "user.x", b"1"),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "exec an open file": lambda: os.execve(os.open("/usr/bin/env", os.O_RDONLY), ["env"], {}),
        "exec through the loader": lambda: os.posix_spawn("/lib64/ld-linux-x86-64.so.2", ["ld", "/bin/true"], {}),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "fork": _fork,
        "connect a socket from before": lambda: spare.connect(("127.0.0.1", port)),
        "connect over IPv4": _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)),
        "connect over IPv6": _connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", port)),
        "ask a name server": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port)),
        "call a service of the desktop": _connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0holdall-nobody"),
        "talk to the kernel": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "make a pair for datagrams": lambda: socket.socketpair(type=socket.SOCK_DGRAM),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "trace": lambda: system_call(_number("ptrace"), 0x4206, STRANGER),  # PTRACE_SEIZE, which stops nobody
        "signal another process": lambda: os.kill(STRANGER, 0),
        "signal all processes": lambda: os.kill(-1, 0),
        "read another's environment": lambda: Path(f"/proc/{STRANGER}/environ").read_bytes(),
        "read another's memory": lambda: Path(f"/proc/{STRANGER}/mem").open("rb"),
        "write one's own memory": lambda: Path("/proc/self/mem").open("r+b"),
        "type on the terminal": lambda: fcntl.ioctl(0, 0x5412, b"x"),
        "type on the terminal, by a wider number": lambda: system_call(_number("ioctl"), 0, (1 << 32) | 0x5412, 0),
    }


def system_calls() -> dict[str, Callable[[], object]]:
    """Return the calls that are refused by their number alone, with arguments that no kernel takes."""
    column = ["x86_64", "aarch64"].index(os.uname().machine)
    numbers = {name: each[column] for name, each in seccomp.REFUSED.items()}
    return {
        name: lambda number=number: system_call(number, *[-1] * 6)
        for name, number in numbers.items()
        if number is not None and name not in {"fork", "vfork"}
    }


def needed(own: Path, file: Path, listening: socket.socket) -> dict[str, Callable[[], object]]:
    """Return what is to go on: files in `own`, the one file `file`, and accepting at `listening`."""

    def write_and_rename() -> None:
        (own / "a.tmp").write_bytes(b"1")
        (own / "a.tmp").replace(own / "a")
        os.truncate(os.open(own / "a", os.O_RDWR), 0)
        (own / "a").unlink()

    def keep_chats() -> None:
        from runtime.store.store import ChatStore

        ChatStore(own / "x.chats").close()

    def start_a_thread() -> None:
        thread = threading.Thread(target=os.getpid)
        thread.start()
        thread.join()

    return {
        "read": lambda: file.read_bytes(),
        "write and rename": write_and_rename,
        "keep chats": keep_chats,
        "start a thread": start_a_thread,
        "accept": lambda: listening.accept()[0].recv(5),
        "import": lambda: __import__("wave"),
        "load a library": lambda: __import__("_lzma"),
        "make a pair of sockets": lambda: socket.socketpair(),
        "know the time": lambda: __import__("datetime").datetime.now().astimezone(),
        "know the load": lambda: Path("/proc/loadavg").read_bytes(),
        "count the threads": lambda: list(Path("/proc/self/task").iterdir()),
        "open a memory file": lambda: Path(f"/proc/self/fd/{os.memfd_create('m')}").open("rb"),
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "raise": lambda: signal.raise_signal(signal.SIGCONT),
        "draw random bytes": lambda: Path("/dev/urandom").open("rb"),
    }


def _harmless(tried: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Return those attempts that an unprotected process may make."""
    return {name: each for name, each in tried.items() if not name.startswith(("exec", "trace", "type"))}


def outcomes(tried: dict[str, Callable[[], object]]) -> dict[str, str]:
    return {name: _refused_with(attempt) for name, attempt in tried.items()}


def main(mode: str, folder: Path, port: int, listening_file: int) -> None:
    """Enter the sandbox of a mode and say how each attempt went, on this thread and on one that is started then."""
    listening, spare = socket.socket(fileno=listening_file), socket.socket()
    needs = needed(folder / "own", folder / "model", listening)
    match mode:
        case "both":
            entered: object = sandbox.enter([folder / "model"], [folder / "own"])
        case "files":
            entered = landlock.restrict(sandbox.rules([folder / "model"], [folder / "own"]))
        case "calls":
            entered = seccomp.refuse()
        case "no files":
            entered = sandbox.enter_without_files()
        case _:
            sys.stdout.write(json.dumps({"here": outcomes(_harmless(attempts(folder / "secret", port, spare)))}))
            return
    said = {"entered": entered, "here": outcomes(attempts(folder / "secret", port, spare)), "needed": outcomes(needs)}
    if mode != "files":  # which refuses no call by its number
        said["calls"] = outcomes(system_calls())
    thread = threading.Thread(target=lambda: said.update(thread=outcomes(attempts(folder / "secret", port, spare))))
    thread.start()
    thread.join()
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

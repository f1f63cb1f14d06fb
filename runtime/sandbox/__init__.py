"""What the program gives up before it reads a byte of a model or of a request.

A model file, a picture or a request that finds a fault in the code that reads it, and makes that code its own, is then
in a process that can start no program, call nobody, and open no file but those that answering takes. The kernel keeps
that up for the thread that enters, and for every thread and process that it starts afterwards; those that run already
stay as they are. So the main thread enters, before the one that loads and those that compute are started, and whatever
is to be started as a process, such as the browser, is started before.

It costs nothing that a person would notice, and nothing fails for the lack of it: Landlock and seccomp are in Linux; on
another system, or on a kernel without one of them, that part is missing and `--verbose` says so.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.sandbox import landlock, seccomp

# Where libraries are that the system loads when they are first needed, and what it says of itself and of the time.
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store", "/etc/ld.so.cache"),
    *("/etc/localtime", "/usr/share/zoneinfo"),
    *("/sys/devices/system", "/sys/fs/cgroup"),
    "/dev/urandom",  # SQLite's
)
# Not the whole folder: what is private to other processes is readable there for who may administer the computer.
_PROCESS = (
    *("/proc/self", "/proc/loadavg", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat"),
    "/proc/sys/vm/overcommit_memory",  # which libc reads before it gives memory back
)


def enter(reads: Sequence[Path], writes: Sequence[Path]) -> str:
    """Give up everything but reading `reads` and what the program consists of, and changing files in `writes`.

    Both are files or folders, which are there. Irrevocable, for the calling thread and all that it starts. Return in
    words what the kernel keeps up.
    """
    # In this order: what is refused afterwards may be what Landlock is made with.
    return described(landlock.restrict(rules(reads, writes)), has_seccomp=seccomp.refuse())


def enter_without_files() -> str:
    """Give up every file as well: for a child that has loaded all it needs, and only computes and answers by a pipe."""
    return described(landlock.restrict(()), has_seccomp=seccomp.refuse(seccomp.FILES))


def described(landlock_version: int, *, has_seccomp: bool) -> str:
    """Say what is kept up with a version of Landlock, 0 for none, and with seccomp."""
    calls = (
        "no programs, processes or connections of its own (seccomp)"
        if has_seccomp
        else "programs and connections aren't forbidden, for this system has no seccomp"
    )
    files = (
        f"no files but its own (Landlock {landlock_version})"
        if landlock_version
        else "files aren't guarded, for this system has no Landlock"
    )
    return f"sandbox: {calls}; {files}"


def rules(reads: Sequence[Path], writes: Sequence[Path]) -> list[tuple[Path, int]]:
    """Return which access to which files and folders is left."""
    own = [Path(sys.executable), *map(Path, sys.path)]
    readable = [*map(Path, (*_SYSTEM, *_PROCESS)), *own, *reads]
    return [(path, landlock.READ) for path in readable] + [(path, landlock.WRITE) for path in writes]

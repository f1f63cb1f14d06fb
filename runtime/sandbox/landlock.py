"""Landlock (landlock(7), Linux 5.13 and later): which files a thread, and all that it starts, may still open.

What a ruleset handles is forbidden, but for its rules. A rule names a folder and all below it, or one file. It is bound
to the inode that lies there when the rule is made: a folder that is made anew later is another one. Kernels learnt more
kinds of access over time, their "ABI versions"; what a kernel doesn't know isn't handled, and stays allowed.
"""

import contextlib
import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
_PR_SET_NO_NEW_PRIVS = 38


# LANDLOCK_ACCESS_FS_* of linux/landlock.h, as far as they are named here.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE, _IOCTL = 1 << 5, 1 << 8, 1 << 14, 1 << 15

READ = _READ_FILE | _READ_DIR
# To change files, make and delete them; not to make folders, links or devices.
WRITE = READ | _WRITE_FILE | _TRUNCATE | _MAKE_FILE | _REMOVE_FILE
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
# The number of kinds of access to files that each ABI version knows.
_NUM_KNOWN = (0, 13, 14, 15, 15, 16)
_ABI_OF_NETWORK, _NETWORK = 4, 0b11  # LANDLOCK_ACCESS_NET_BIND_TCP, _CONNECT_TCP
_ABI_OF_SCOPES, _SCOPES = 6, 0b11  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, _SIGNAL


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`; a kernel accepts fields that it doesn't know while they are 0."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def abi_version() -> int:
    """Return what the kernel has of Landlock, 0 where it has none or keeps us from it."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return _call(_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def restrict(rules: Iterable[tuple[Path, int]]) -> int:
    """Forbid the calling thread, and all that it starts from now on, any access to files but that of the rules.

    A rule is a path with READ or WRITE; one that can't be made, as for a path that isn't there, is left out. TCP
    connections, signals to other processes and abstract Unix sockets are forbidden as well where the kernel can. Return
    the kernel's ABI version, 0 where nothing could be done.
    """
    version = abi_version()
    if version == 0:
        return 0
    known = (1 << _NUM_KNOWN[min(version, len(_NUM_KNOWN) - 1)]) - 1
    handled = _Ruleset(
        known,
        _NETWORK if version >= _ABI_OF_NETWORK else 0,
        _SCOPES if version >= _ABI_OF_SCOPES else 0,
    )
    try:
        ruleset = _call(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    except OSError:
        return 0
    try:
        for path, access in rules:
            _allow(ruleset, path, access & known)
        forbid_new_privileges()
        _call(_RESTRICT_SELF, ruleset, 0)
    except OSError:
        return 0
    finally:
        os.close(ruleset)
    return version


def forbid_new_privileges() -> None:
    """Keep what the thread starts from getting more rights (setuid): both restrictions demand it. Raises OSError."""
    if libc().prctl(*(ctypes.c_ulong(each) for each in (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@cache
def libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        # Never closed: a file system such as /proc makes an inode anew that nobody holds when memory gets short, and
        # the rule would be bound to the old one.
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        access &= _OF_FILES
    beneath = _PathBeneath(access, place)
    # What lies on no mounted file system, as a memory file, takes no rule, and needs none.
    with contextlib.suppress(OSError):
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)


def _call(number: int, *arguments: Any) -> int:
    """Make a system call. Raises OSError."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    function = libc().syscall
    function.restype = ctypes.c_long
    result = int(function(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

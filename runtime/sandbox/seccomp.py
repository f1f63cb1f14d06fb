"""seccomp (seccomp(2)): which system calls a thread, and all that it starts, may still make.

The filter is a list of what is refused; all else is allowed. A list of what is allowed would be tighter, but it would
have to name what every libc, kernel and library of later years calls to allocate or to wait, and what is missing there
breaks an answer on a machine that nobody has tried. What is refused here nothing that only answers requests has a use
for. A refused call fails with EPERM and ends nothing.

The kernel runs the filter, a program of classic BPF, before each call. It reads numbers only: what a pointer points to,
a path or an address, is out of its sight; paths are Landlock's matter.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable, Mapping

from runtime.sandbox.landlock import forbid_new_privileges, libc

# Names to their numbers on x86-64 and on AArch64; None where the architecture has no such call.
_Calls = Mapping[str, tuple[int | None, int | None]]

REFUSED: _Calls = {
    # To start another program, or a process.
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    # To call somebody. Sockets that listen already go on accepting.
    "socket": (41, 198),
    "connect": (42, 203),
    # To reach into other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "tkill": (200, 130),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # To become somebody else, or to live in another world of files.
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "setgroups": (116, 159),
    "capset": (126, 91),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "mount_setattr": (442, 442),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    # To get at the kernel by its most intricate doors, some of which lead past this filter.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    # To administer the computer, if the user may.
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    # To change files by their path in ways that Landlock doesn't see. The same by an open file is allowed: SQLite
    # gives its journal the rights of its database.
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "removexattrat": (466, 466),
}

# All that begins with a path: for who has opened all that it will ever need.
FILES: _Calls = {
    "open": (2, None),
    "creat": (85, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rmdir": (84, None),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
}

# Those whose first argument is a process: only this one is allowed.
SIGNALS: _Calls = {
    "kill": (62, 129),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}

# What the filter looks into, or answers in its own way.
OTHERS: _Calls = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioctl": (16, 29),
    "socketpair": (53, 199),
    "seccomp": (317, 277),
}

_CLONE_THREAD = 0x00010000
# They type on the terminal that the program was started from, for its shell to read.
_TYPING_IOCTLS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_UNIX, _STREAM, _TYPE_BITS = 1, 1, 0xF  # AF_UNIX, SOCK_STREAM; the other bits of a socket's type are flags
_X32_BIT = 0x40000000  # x86-64's third numbering of calls

_COLUMNS = {"x86_64": 0, "aarch64": 1}
_AUDIT_ARCHITECTURES = (0xC000003E, 0xC00000B7)  # linux/audit.h: AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64

# `struct seccomp_data`: the call's number, the architecture, and the lower halves of the first two arguments.
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
# linux/bpf_common.h.
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO

_SET_MODE_FILTER = 1  # SECCOMP_SET_MODE_FILTER
# Until Linux 5.16 a thread with a filter pays for protections against speculation, which cost computing some percent.
_FLAGS = (4, 0)  # SECCOMP_FILTER_FLAG_SPEC_ALLOW, and for kernels that know neither


class _Program(ctypes.Structure):
    """`struct sock_fprog` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(more: _Calls | None = None) -> bool:
    """Refuse the calling thread, and all that it starts from now on, the calls of REFUSED, and `more`.

    Return whether that is so: the kernel may know no seccomp, and an architecture's numbers may be unknown here.
    """
    column = _COLUMNS.get(os.uname().machine) if sys.platform.startswith("linux") else None
    if column is None or sys.byteorder != "little" or sys.maxsize < 2**32:  # a 32-bit program on a 64-bit kernel
        return False
    assembled = assemble(column, os.getpid(), more or {})
    program = _Program(len(assembled) // 8, assembled)
    try:
        forbid_new_privileges()
    except OSError:
        return False
    function = libc().syscall
    function.restype = ctypes.c_long
    number = ctypes.c_long(OTHERS["seccomp"][column] or 0)
    words = [(ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(flags)) for flags in _FLAGS]
    return any(function(number, mode, flags, ctypes.byref(program)) == 0 for mode, flags in words)


def assemble(column: int, pid: int, more: _Calls) -> bytes:
    """Return the filter for the architecture of a column of the tables above, in a process of that number."""
    refused = _numbers(REFUSED, column) + _numbers(more, column)
    clone, clone3, ioctl, socketpair, _seccomp = _numbers(OTHERS, column)
    fail = _instruction(_RETURN, _FAIL | errno.EPERM)
    allow = _instruction(_RETURN, _ALLOW)
    # Another architecture's calls, as 32-bit ones, have other numbers: the program makes none.
    parts = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_IF_EQUAL, _AUDIT_ARCHITECTURES[column], skip=1),
        fail,
        _instruction(_LOAD, _NUMBER),
        _instruction(_IF_AT_LEAST, _X32_BIT, otherwise=1),
        fail,
    ]
    for number in refused:
        parts += [_instruction(_IF_EQUAL, number, otherwise=1), fail]
    # Its argument is a pointer. libc takes the old `clone` where the kernel has no `clone3`.
    parts += [_instruction(_IF_EQUAL, clone3, otherwise=1), _instruction(_RETURN, _FAIL | errno.ENOSYS)]
    parts += _looking_into(clone, _FIRST, [_instruction(_IF_ANY_BIT, _CLONE_THREAD, otherwise=1), allow, fail])
    # Two ends of one stream reach nobody else; a datagram may bear another's address.
    pair = [_instruction(_IF_EQUAL, _UNIX, skip=1), fail, _instruction(_LOAD, _SECOND), _instruction(_AND, _TYPE_BITS)]
    parts += _looking_into(socketpair, _FIRST, [*pair, _instruction(_IF_EQUAL, _STREAM, skip=1), fail, allow])
    for number in _numbers(SIGNALS, column):
        parts += _looking_into(number, _FIRST, [_instruction(_IF_EQUAL, pid, otherwise=1), allow, fail])
    typing = [part for each in _TYPING_IOCTLS for part in (_instruction(_IF_EQUAL, each, otherwise=1), fail)]
    parts += _looking_into(ioctl, _SECOND, [*typing, allow])
    return b"".join([*parts, allow])


def _looking_into(number: int, argument: int, decision: list[bytes]) -> list[bytes]:
    """Return the instructions that decide a call by an argument; each way through `decision` returns."""
    return [
        _instruction(_IF_EQUAL, number, otherwise=1 + len(decision)),
        _instruction(_LOAD, argument),
        *decision,
    ]


def _instruction(code: int, value: int, *, skip: int = 0, otherwise: int = 0) -> bytes:
    """Return a `struct sock_filter`: `skip` and `otherwise` are how many instructions a comparison leaps over."""
    return struct.pack("<HBBI", code, skip, otherwise, value)


def _numbers(calls: _Calls, column: int) -> list[int]:
    found: Iterable[int | None] = (numbers[column] for numbers in calls.values())
    return [number for number in found if number is not None]

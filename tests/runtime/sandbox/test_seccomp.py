"""The filter as a program, run by an interpreter of its own, for both architectures wherever the test runs."""

import errno
import importlib.util
import re
import struct
from pathlib import Path

import pytest

from runtime.sandbox import seccomp

ARCHITECTURES = {"x86-64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOWED, NO_SUCH_CALL = "allowed", "ENOSYS"
PID = 4711


def verdict(program: bytes, number: int, architecture: int, *arguments: int) -> str:
    """Run a filter as the kernel does, classic BPF over `struct seccomp_data`; a leap past the end is an error."""
    data = struct.pack("<iIQ6Q", number, architecture, 0, *(arguments + (0,) * 6)[:6])
    accumulator = position = 0
    while True:
        code, skip, otherwise, value = struct.unpack_from("<HBBI", program, 8 * position)
        position += 1
        match code:
            case 0x20:
                [accumulator] = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x06:
                return ALLOWED if value == 0x7FFF0000 else errno.errorcode[value & 0xFFFF]
            case _:
                holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value != 0}[code]
                position += skip if holds else otherwise


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES)
def filtered(request: pytest.FixtureRequest) -> tuple[int, int, bytes]:
    column, architecture = request.param
    return column, architecture, seccomp.assemble(column, PID, {})


def numbers(calls: "seccomp._Calls", column: int) -> list[int]:
    return [number for each in calls.values() if (number := each[column]) is not None]


def test_each_call_of_the_list_is_refused_and_all_others_are_allowed(filtered: tuple[int, int, bytes]) -> None:
    column, architecture, program = filtered
    refused = set(numbers(seccomp.REFUSED, column))
    looked_into = set(numbers(seccomp.SIGNALS, column)) | set(numbers(seccomp.OTHERS, column))
    for number in range(1000):
        if number in refused:
            assert verdict(program, number, architecture) == "EPERM"
        elif number not in looked_into:
            assert verdict(program, number, architecture) == ALLOWED


def test_a_child_without_files_is_refused_them_too(filtered: tuple[int, int, bytes]) -> None:
    column, architecture, lenient = filtered
    program = seccomp.assemble(column, PID, seccomp.FILES)
    for number in numbers(seccomp.FILES, column):
        assert verdict(lenient, number, architecture) == ALLOWED
        assert verdict(program, number, architecture) == "EPERM"


def test_calls_by_other_numberings_are_refused(filtered: tuple[int, int, bytes]) -> None:
    column, architecture, program = filtered
    read = [0, 63][column]
    assert verdict(program, read, architecture) == ALLOWED
    assert verdict(program, read, 0x40000003) == "EPERM"  # AUDIT_ARCH_I386
    assert verdict(program, read | 0x40000000, architecture) == "EPERM"  # x32
    assert verdict(program, -1, architecture) == "EPERM"


def test_threads_are_made_and_processes_are_not(filtered: tuple[int, int, bytes]) -> None:
    column, architecture, program = filtered
    [clone, clone3] = [seccomp.OTHERS[name][column] or 0 for name in ("clone", "clone3")]
    thread = 0x3D0F00  # what pthread_create passes
    assert verdict(program, clone, architecture, thread) == ALLOWED
    for flags in (17, 0x4111, thread & ~0x10000, 0x10000 << 32):  # a fork, a spawn, and what is no CLONE_THREAD
        assert verdict(program, clone, architecture, flags) == "EPERM"
    assert verdict(program, clone3, architecture) == NO_SUCH_CALL


def test_signals_go_to_the_process_itself_only(filtered: tuple[int, int, bytes]) -> None:
    column, architecture, program = filtered
    for number in numbers(seccomp.SIGNALS, column):
        assert verdict(program, number, architecture, PID) == ALLOWED
        for other in (1, 0, 2**32 - 1, 2**64 - 1, 2**64 - PID, PID + 1):  # all of a group, all processes
            assert verdict(program, number, architecture, other) == "EPERM"


def test_a_pair_of_sockets_is_two_ends_of_one_stream(filtered: tuple[int, int, bytes]) -> None:
    column, architecture, program = filtered
    socketpair = seccomp.OTHERS["socketpair"][column] or 0
    for kind in (1, 1 | 0o2000000, 1 | 0o4000):  # SOCK_STREAM, with SOCK_CLOEXEC, with SOCK_NONBLOCK
        assert verdict(program, socketpair, architecture, 1, kind) == ALLOWED
    for family, kind in ((1, 2), (1, 5), (1, 2 | 0o2000000), (2, 1), (16, 3), (30, 1), (1 << 32, 1)):
        assert verdict(program, socketpair, architecture, family, kind) == "EPERM"


def test_nothing_is_typed_on_the_terminal(filtered: tuple[int, int, bytes]) -> None:
    column, architecture, program = filtered
    ioctl = seccomp.OTHERS["ioctl"][column] or 0
    assert verdict(program, ioctl, architecture, 0, 0x5401) == ALLOWED  # TCGETS
    for request in (0x5412, 0x541C, (1 << 32) | 0x5412):  # the kernel reads the lower half
        assert verdict(program, ioctl, architecture, 0, request) == "EPERM"


@pytest.mark.parametrize(("column", "folder"), [(0, "x86-linux-any"), (1, "aarch64-linux-any")])
def test_the_numbers_are_those_of_linuxs_headers(column: int, folder: str) -> None:
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        pytest.skip("ziglang, which carries Linux's headers, isn't installed")
    header = Path(found.submodule_search_locations[0]) / "lib/libc/include" / folder / "asm/unistd_64.h"
    listed = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", header.read_text()))
    for calls in (seccomp.REFUSED, seccomp.FILES, seccomp.SIGNALS, seccomp.OTHERS):
        for name, each in calls.items():
            number = each[column]
            assert listed.get(name) == (None if number is None else str(number)), name

import importlib.machinery
import importlib.util
from pathlib import Path

import markupsafe._speedups
import pytest

from bundler import elf

SPEEDUPS = Path(markupsafe._speedups.__file__)


def test_a_stripped_library_is_smaller_and_still_works(tmp_path: Path) -> None:
    stripped = tmp_path / "_speedups.so"
    stripped.write_bytes(elf.strip(SPEEDUPS.read_bytes()))
    assert stripped.stat().st_size < SPEEDUPS.stat().st_size
    loader = importlib.machinery.ExtensionFileLoader("_speedups", str(stripped))
    spec = importlib.util.spec_from_loader("_speedups", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    assert module._escape_inner("<") == "&lt;"


def test_stripping_twice_is_stripping_once() -> None:
    once = elf.strip(SPEEDUPS.read_bytes())
    assert elf.strip(once) == once


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" + bytes(100), b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_no_64_bit_elf_stays_as_it_is(data: bytes) -> None:
    assert elf.strip(data) == data


def test_the_newest_glibc_counts_by_number_not_by_letter() -> None:
    assert elf.needed_glibc(b"\0GLIBC_2.9\0GLIBC_2.17\0GLIBC_2.2.5\0GLIBCXX_9.9\0") == (2, 17)
    assert elf.needed_glibc(b"nothing") == (0, 0)

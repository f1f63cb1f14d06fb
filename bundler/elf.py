"""What the build needs of ELF, the format of Linux's libraries: stripping, and which glibc a library asks for.

It is no general tool: what it doesn't know, it leaves as it is.
"""

import re
import struct

# Offsets of the 64-bit little-endian header's fields (elf.h, Elf64_Ehdr and Elf64_Phdr).
_MAGIC = b"\x7fELF\x02\x01"
_EHDR_SIZE = 64
_PHOFF, _SHOFF, _PHENTSIZE, _SHENTSIZE = 32, 40, 54, 58
_PT_LOAD = 1

# A library names each version of glibc that it needs in plain text, in its dynamic string table.
_GLIBC_SYMBOL = re.compile(rb"\0GLIBC_(\d+)\.(\d+)")


def strip(library: bytes) -> bytes:
    """The library without what the loader never reads.

    The loader goes by program headers alone. Linkers put symbol tables and debug data, which only the section table
    points to, behind the last loaded segment: cutting there and clearing the section table needs no `strip`.
    """
    if len(library) < _EHDR_SIZE or not library.startswith(_MAGIC):
        return library
    (start,) = struct.unpack_from("<Q", library, _PHOFF)
    entry_bytes, count = struct.unpack_from("<HH", library, _PHENTSIZE)
    end = start + entry_bytes * count
    for index in range(count):
        kind, _, offset, _, _, file_bytes = struct.unpack_from("<IIQQQQ", library, start + index * entry_bytes)
        if kind == _PT_LOAD:
            end = max(end, offset + file_bytes)
    stripped = bytearray(library[:end])
    struct.pack_into("<Q", stripped, _SHOFF, 0)
    struct.pack_into("<HHH", stripped, _SHENTSIZE, 0, 0, 0)
    return bytes(stripped)


def needed_glibc(library: bytes) -> tuple[int, int]:
    """The newest glibc version that a library asks for; (0, 0) when it asks for none."""
    return max(((int(a), int(b)) for a, b in _GLIBC_SYMBOL.findall(library)), default=(0, 0))

"""Whether a PNG's data is no more than its header promises. Pure.

Some hundred kilobytes can inflate to gigabytes, and the library that reads pictures inflates all before it looks. So
the data is inflated here first, in pieces that are dropped, as far as a picture of the header's size can go.
"""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">II")
_CHUNK_HEADER = struct.Struct(">I4s")
_CHECKSUM_BYTES = 4
_MAX_PIXEL_BYTES = 8  # four channels of 16 bits
_MAX_RATIO = 1032  # deflate's best: 258 bytes of two bits
_HARMLESS_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024


def is_bomb(data: bytes) -> bool:
    """Whether a PNG inflates to far more than its pixels. What is damaged is left to those who read it."""
    if len(data) * _MAX_RATIO <= _HARMLESS_BYTES:
        return False
    start = len(SIGNATURE) + _CHUNK_HEADER.size
    if len(data) < start + _HEADER.size:
        return False
    width, height = _HEADER.unpack_from(data, start)
    # A filter's byte for each row, and with interlacing seven pictures' rows.
    left = max(_HARMLESS_BYTES, width * height * _MAX_PIXEL_BYTES + 8 * height)
    inflater = zlib.decompressobj()
    try:
        for part in _image_data(data):
            rest = part
            while rest:
                left -= len(inflater.decompress(rest, _PIECE_BYTES))
                if left < 0:
                    return True
                rest = inflater.unconsumed_tail
    except zlib.error:
        return False
    return False


def _image_data(data: bytes) -> Iterator[bytes]:
    position = len(SIGNATURE)
    while position + _CHUNK_HEADER.size <= len(data):
        length, kind = _CHUNK_HEADER.unpack_from(data, position)
        position += _CHUNK_HEADER.size
        if kind == b"IDAT":
            yield data[position : position + length]
        position += length + _CHECKSUM_BYTES

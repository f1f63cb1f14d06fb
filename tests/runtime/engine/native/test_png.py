import zlib

import pytest

from runtime.engine.native.png import is_bomb
from tests.tiny_projectors import png, png_of


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return png_of(32, 32, zlib.compress(bytes(70 * 2**20)))


def test_a_picture_is_no_bomb() -> None:
    assert not is_bomb(png(600, 400))


def test_a_small_file_that_inflates_to_much_more_than_its_pixels_is_one(bomb: bytes) -> None:
    assert len(bomb) < 100_000
    assert is_bomb(bomb)


def test_a_large_picture_of_one_colour_is_none() -> None:
    width, height = 6000, 4000
    assert not is_bomb(png_of(width, height, zlib.compress(bytes((3 * width + 1) * height))))


@pytest.mark.parametrize("length", [0, 7, 8, 20, 33, 40])
def test_what_is_damaged_is_left_to_the_reader(bomb: bytes, length: int) -> None:
    assert not is_bomb(bomb[:length])
    assert not is_bomb(png_of(32, 32, b"no deflate" * 20_000))

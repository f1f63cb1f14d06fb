import base64
from pathlib import Path

import pytest

from bundler.errors import RecipeError
from bundler.icon import MAX_BYTES, read_icon

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'


@pytest.mark.parametrize(("content", "media_type"), [(PNG, "image/png"), (SVG, "image/svg+xml")], ids=["png", "svg"])
def test_an_icon_becomes_a_data_url_by_what_it_is_and_not_by_its_name(
    tmp_path: Path, content: bytes, media_type: str
) -> None:
    path = tmp_path / "icon.ico"
    path.write_bytes(content)
    head, _, data = read_icon(path).partition(",")
    assert head == f"data:{media_type};base64"
    assert base64.b64decode(data) == content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GIF89a", "neither a PNG nor an SVG"),
        (b"", "neither a PNG nor an SVG"),
        (b"<html/>", "neither a PNG nor an SVG"),
        (b"<svg viewBox='0 0 1 1'/>", "xmlns=http://www.w3.org/2000/svg"),
        (b"<svg", "neither a PNG nor an SVG"),
        (PNG + b"\0" * MAX_BYTES, "larger than 64 KB"),
    ],
    ids=["gif", "empty", "html", "without its namespace", "broken", "too large"],
)
def test_what_can_be_no_icon_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "icon.png"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=said):
        read_icon(path)


def test_an_icon_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.png: can't be read"):
        read_icon(tmp_path / "none.png")

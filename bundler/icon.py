"""A bundle's icon: a small PNG or SVG file → the data URL that the manifest carries."""

import base64
from pathlib import Path
from xml.etree import ElementTree

from bundler.errors import RecipeError

MAX_BYTES = 64 << 10
_PNG = b"\x89PNG\r\n\x1a\n"
_SVG = "{http://www.w3.org/2000/svg}svg"


def read_icon(path: Path) -> str:
    """Return a file as a data URL; RecipeError when it can't be an icon."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"icon {path}: can't be read ({error.strerror or error})") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(f"icon {path}: is larger than {MAX_BYTES >> 10} KB; make it smaller")
    return f"data:{_media_type(path, data)};base64,{base64.b64encode(data).decode('ascii')}"


def _media_type(path: Path, data: bytes) -> str:
    if data.startswith(_PNG):
        return "image/png"
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError):
        root = None
    if root is None or root.tag != _SVG:
        raise RecipeError(f"icon {path}: is neither a PNG nor an SVG file (with xmlns={_SVG[1:-4]})")
    return "image/svg+xml"

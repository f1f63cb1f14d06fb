"""The chat page as a bundle carries it: the same files, without comments and without space that means nothing.

The source in `webclient/` stays what the browser runs as it is; nothing here has to happen before the page works. A
template literal within another is beyond rjsmin, and a test refuses every module that it would change.
"""

import re
import shutil
from pathlib import Path

import rcssmin
import rjsmin

_INDENT = re.compile(r"\n\s+")


def _without_indent(html: str) -> str:
    """Return HTML whose lines begin at the margin; a browser sees the same white space."""
    return _INDENT.sub("\n", html)


_MINIFIERS = {".js": rjsmin.jsmin, ".css": rcssmin.cssmin, ".html": _without_indent}


def pack_page(source: Path, target: Path) -> None:
    """Write each file below `source` to the same place below `target`, all but pictures made smaller."""
    for path in sorted(source.rglob("*")):
        packed = target / path.relative_to(source)
        if path.is_dir():
            continue
        packed.parent.mkdir(parents=True, exist_ok=True)
        minify = _MINIFIERS.get(path.suffix)
        if minify is None:
            shutil.copyfile(path, packed)
        else:
            packed.write_text(minify(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")

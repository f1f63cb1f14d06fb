"""Texts from files and strangers, as they may be shown on a terminal."""

import re

# Controls of both sets (C0, C1), which a terminal obeys; ends of lines and marks of direction, which rearrange what a
# person reads; surrogates, which no encoding has.
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keeps: str = "") -> str:
    """Return a text with all that isn't to be shown written as `\\u001b`; JSON stays the JSON that it was."""

    def escaped(match: re.Match[str]) -> str:
        return match[0] if match[0] in keeps else f"\\u{ord(match[0]):04x}"

    return _NOT_SHOWN.sub(escaped, text)

"""Pictures and sounds as JSON brings them, to bytes; what is in them is the engine's to find out.

Nothing is fetched: an address in a request would let whoever sends it look around in this computer's network.
"""

import base64
import binascii
import re

from runtime.checked import wrong
from runtime.errors import RequestError

_DATA_URL = re.compile(r"data:(?P<kind>[^,;]*)(;[^,;]*)*?(?P<base64>;base64)?,", re.IGNORECASE)
_MAX_HEAD_CHARS = 1000  # before a URL's comma; what is longer is data
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def from_base64(value: object, param: str) -> bytes:
    """Return what a field holds in base64. Raises RequestError."""
    if not isinstance(value, str) or not value:
        raise wrong(param, "a text in base64")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"'{param}' is no base64", param) from None


def from_url(value: object, param: str) -> bytes:
    """Return what a `data:` URL of a picture or a sound holds; bare base64 is understood, too. Raises RequestError."""
    if not isinstance(value, str) or not value:
        raise wrong(param, "a data: URL")
    found = _DATA_URL.match(value, 0, _MAX_HEAD_CHARS)
    if found is None:
        if _ADDRESS.match(value, 0, _MAX_HEAD_CHARS):
            raise RequestError(
                f"'{param}' is an address, and nothing is fetched from here; send data:image/png;base64,…", param
            )
        return from_base64(value, param)
    kind = found["kind"].lower()
    if not kind.startswith(("image/", "audio/")):
        raise RequestError(f"'{param}' holds {kind[:50] or 'text'}, which is neither a picture nor a sound", param)
    if not found["base64"]:
        raise RequestError(f"'{param}' must hold base64, as data:{kind[:50]};base64,… does", param)
    return from_base64(value[found.end() :], param)

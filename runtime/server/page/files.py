"""The chat page's files, packed on their way, and the headers that keep the page to itself."""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from runtime.server.answering.errors import Endpoint

WEBCLIENT = Path(__file__).parents[3] / "webclient"

# mimetypes asks the machine, and some Windows registries call JavaScript text/plain.
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Two bundles may take turns on one port: a browser must ask again, and the ETag makes asking cheap.
    "cache-control": "no-cache",
    "vary": "accept-encoding",
}


def page_endpoints(folder: Path) -> Iterator[tuple[str, Endpoint]]:
    """Yield a path and an endpoint for each file of the page below `folder`, `index.html` as `/` too.

    Only files of a known type are served, and only those that are there now.
    """
    for path in sorted(folder.rglob("*")):
        media_type = _MEDIA_TYPES.get(path.suffix)
        if media_type is None or not path.is_file():
            continue
        endpoint = _endpoint(path.read_bytes(), media_type)
        name = path.relative_to(folder).as_posix()
        yield f"/{name}", endpoint
        if name == "index.html":
            yield "/", endpoint


def _endpoint(content: bytes, media_type: str) -> Endpoint:
    digest = hashlib.sha256(content).hexdigest()[:32]

    @functools.cache
    def packed() -> bytes:  # at the first request for it, so that the start doesn't wait
        import gzip

        return gzip.compress(content, mtime=0)

    async def serve(request: Request) -> Response:
        is_packed = _takes_gzip(request.headers.get("accept-encoding", ""))
        etag = f'"{digest}-gzip"' if is_packed else f'"{digest}"'
        headers = {**_HEADERS, "etag": etag, **({"content-encoding": "gzip"} if is_packed else {})}
        known = request.headers.get("if-none-match", "")
        if etag in known or known.strip() == "*":
            return Response(status_code=304, headers=headers)
        return Response(packed() if is_packed else content, headers=headers, media_type=media_type)

    return serve


def _takes_gzip(accept_encoding: str) -> bool:
    for offer in accept_encoding.lower().split(","):
        name, _, weight = offer.replace(" ", "").partition(";q=")
        if name == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False

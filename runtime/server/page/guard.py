"""What only the program's own page may ask for, and how a request shows that it comes from there.

A page of another site can make a browser send requests to us, with the person's rights. It can't give them a header of
its own without asking first, and is refused that (security.py); and a browser says in `Origin` where a request that
could do harm comes from. Pages that `--cors-origins` lets in may use the model, not read the chats.

Another user of this computer can send any header; the door knows those by their connection (door/peers.py).
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from runtime.server.refusals import Forbidden

S = TypeVar("S")
Method = Callable[[S, Request], Awaitable[Response]]

HEADER, VALUE = "x-holdall", "page"
# Answers are the person's own words: for this page alone, and not for the browser's cache.
PRIVATE = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


def showing(method: "Method[S]") -> "Method[S]":
    """Mark an endpoint that shows what everybody on this computer may see: refused to other sites' pages."""
    return _guarded(method, _check_origin)


def reading(method: "Method[S]") -> "Method[S]":
    """Mark an endpoint that shows what is the person's own: refused to other users of this computer, too."""
    return _guarded(method, _check_origin, _check_user)


def writing(method: "Method[S]") -> "Method[S]":
    """Mark an endpoint that changes something: only with the header that no other site's page can send, too."""
    return _guarded(method, _check_origin, _check_user, _check_header)


def another_users_problem(request: Request) -> str | None:
    """Return why what is the person's own is refused to whoever asks; None when it is theirs."""
    if not request.state.is_another_user:
        return None
    return (
        "this program was started by another user of this computer, and its chats are theirs; start one of your own, "
        "or have it started with --api-key"
    )


def _guarded(method: "Method[S]", *checks: Callable[[Request], None]) -> "Method[S]":
    @wraps(method)
    async def guarded(self: S, request: Request) -> Response:
        for check in checks:
            check(request)
        response = await method(self, request)
        response.headers.update(PRIVATE)
        return response

    return guarded


def _check_user(request: Request) -> None:
    problem = another_users_problem(request)
    if problem is not None:
        raise Forbidden(problem)


def _check_header(request: Request) -> None:
    if request.headers.get(HEADER) != VALUE:
        raise Forbidden(f"this is for the program's own page, which sends the header {HEADER}: {VALUE}")


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if origin is None:
        return
    # The scheme may differ behind a proxy that speaks TLS.
    if origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise Forbidden("this is for the program's own page, not for those of other sites")

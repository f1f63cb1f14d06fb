"""Who is let in: the key, the name a request calls this server by, and the pages that may ask.

Four dangers, four checks, all on a request's head; an answer's stream passes untouched.

* Without a key, whoever reaches the port may use the model. That is meant on one's own machine; elsewhere the program
  says so on stderr, and `--api-key` closes the door.
* DNS rebinding: a web page whose own name suddenly resolves to 127.0.0.1 is "same origin" for the browser. Its
  requests still carry that name in `Host`, so only names that are ours are served. An address written in digits can't
  be rebound, so every one of them is fine: a request came in by it.
* Foreign pages: no `Access-Control-*` header means that a browser keeps answers from them. What changes nothing but
  costs much (a POST can be sent by any page, unread) is refused as well when it comes from a web page. Origins with a
  scheme of their own (`vscode-webview:`, `chrome-extension:`) belong to programs that the person has installed.
* Other users of this computer reach the port as well. They may use the model, but the chats and the program's end are
  not theirs: the request is marked, and the page's endpoints refuse it (page/guard.py). A key says more than a user's
  name, so where keys are asked for they decide alone.
"""

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.server.answering.errors import error_response
from runtime.server.door.peers import Peers
from runtime.server.refusals import Forbidden, Unauthorized

ANY_ORIGIN = "*"
LOCAL_ORIGINS = "localhost"  # llama-server's word for every origin on this machine

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# Names as llama-server writes them: its clients look them up with their capitals.
_PREFLIGHT_HEADERS = [
    (b"Access-Control-Allow-Methods", b"GET, POST, DELETE, OPTIONS"),
    (b"Access-Control-Allow-Headers", b"*, Authorization"),  # the star alone leaves Authorization out (Fetch standard)
    (b"Access-Control-Allow-Private-Network", b"true"),
    (b"Access-Control-Max-Age", b"600"),
]


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in. No keys: everybody. `hosts` are names beside localhost; `origins` foreign pages that may ask.

    `peers` tells other users of this computer; without it nobody is one.
    """

    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    peers: Peers | None = None


class AccessMiddleware:
    """An ASGI application around another: requests that may not come in are answered here."""

    def __init__(self, app: ASGIApp, access: Access, public_paths: Collection[str]) -> None:
        """`public_paths` need no key."""
        self._app = app
        self._keys = tuple(key.encode() for key in access.keys)
        self._hosts = {"localhost", *(name.lower() for name in access.hosts)}
        self._origins = {origin.rstrip("/").lower() for origin in access.origins}
        self._public_paths = frozenset(public_paths)
        self._peers = access.peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = _foreign_origin(headers)
        is_guest = origin is not None and (ANY_ORIGIN in self._origins or self._is_named(origin))
        if origin is not None and is_guest:
            send = _sharing_with(origin, send, has_credentials=self._is_named(origin))
        try:
            self._check_host(headers)
            if origin is not None and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                answer = Response()
                if is_guest:
                    answer.raw_headers += _PREFLIGHT_HEADERS
                await answer(scope, receive, send)
                return
            if origin is not None and not is_guest:
                _check_stranger(origin, scope["method"])
            if self._keys and scope["path"] not in self._public_paths:
                self._check_key(headers)
        except (Forbidden, Unauthorized) as refusal:
            await error_response(refusal, scope["path"])(scope, receive, send)
            return
        scope.setdefault("state", {})["is_another_user"] = self._is_another_user(scope)
        await self._app(scope, receive, send)

    def _is_another_user(self, scope: Scope) -> bool:
        if self._peers is None or self._keys:
            return False
        return self._peers.is_another_user(scope["client"], scope["server"])

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        given = headers.get(b"host")
        if given is None:  # HTTP/1.0; every browser names the host
            return
        name = _host_name(given.decode("latin-1"))
        if name not in self._hosts and not name.endswith(".localhost") and not _is_address(name):
            raise Forbidden(
                f"this server doesn't answer to the name {name[:100]!r}; --allowed-hosts gives it more names"
            )

    def _is_named(self, origin: str) -> bool:
        if origin.lower() in self._origins:
            return True
        return LOCAL_ORIGINS in self._origins and _is_on_this_machine(origin)

    def _check_key(self, headers: Mapping[bytes, bytes]) -> None:
        kind, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = (bearer.strip() if kind.lower() == b"bearer" else b"", headers.get(b"x-api-key", b""))
        # Every comparison is made, each in constant time: the time says nothing about the keys.
        matches = [hmac.compare_digest(key, candidate) for key in self._keys for candidate in given]
        if not any(matches):
            raise Unauthorized("Invalid API Key: send one of this server's keys as 'Authorization: Bearer KEY'")


def _foreign_origin(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the origin of the page that asks, None when no page does or it is our own."""
    given = headers.get(b"origin")
    if given is None:
        return None
    origin = given.decode("latin-1")
    # The scheme may differ behind a proxy that speaks TLS; the host has been checked to be ours.
    is_ours = origin.partition("://")[2].lower().encode("latin-1") == headers.get(b"host", b"").lower()
    return None if is_ours else origin


def _check_stranger(origin: str, method: str) -> None:
    is_web_page = origin == "null" or origin.lower().startswith(("http://", "https://"))
    if is_web_page and method not in _READING:
        raise Forbidden(
            f"this server takes no requests from the page {origin[:100]}; --cors-origins says which pages may ask"
        )


def _sharing_with(origin: str, send: Send, *, has_credentials: bool) -> Send:
    """Return a `send` whose answer the page may read.

    `has_credentials` lets it send cookies, which a proxy before this server may ask for; not every page in the world.
    """
    shared = [(b"Access-Control-Allow-Origin", origin.encode("latin-1")), (b"Vary", b"Origin")]
    if has_credentials:
        shared.append((b"Access-Control-Allow-Credentials", b"true"))

    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *shared]
        await send(message)

    return send_shared


def _is_on_this_machine(origin: str) -> bool:
    try:
        name = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _host_name(host: str) -> str:
    """Return the name in a Host header, lower case, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

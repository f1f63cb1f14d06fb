"""Whose a connection is: asked of the kernel, with real sockets and, where the tests run as root, a real other user."""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.server.door.listener import Listener
from runtime.server.door.peers import Peers
from runtime.server.door.security import Access
from runtime.server.page.history import History
from runtime.store.store import ChatStore
from tests.fakes import ScriptedEngine
from tests.runtime.store.chats import chat
from tests.serving import TIMEOUT_SECONDS, make_app
from tests.strangers import owner_of_strangers, send, written

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells whose a socket is")


class Served:
    """The application behind the program's own listener, on a thread; with one chat, c1."""

    def __init__(self, path: Path, host: str, *, keys: tuple[str, ...] = (), owner: int | None = None) -> None:
        self.history = History(lambda: ChatStore(path))
        self.ended: list[bool] = []
        self.bound = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self.bound.getsockname()[1]
        self.peers = Peers(self.bound, owner)
        app = make_app(
            ScriptedEngine(),
            history=self.history,
            access=Access(keys=keys, peers=self.peers),
            end_program=lambda: self.ended.append(True),
        )
        self._listener = Listener(app, verbose=False)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listener.run_on([self.bound])), daemon=True)
        asyncio.run(self.history.run(lambda store: store.put_chat(chat("c1"))))
        self._thread.start()

    def close(self) -> None:
        self._listener.stop()
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive()
        self.bound.close()
        self.peers.close()
        self.history.close()

    def chats(self) -> list[str]:
        return asyncio.run(self.history.run(lambda store: store.ids()))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    served: list[Served] = []

    def start(host: str = "127.0.0.1", **options: object) -> Served:
        served.append(Served(tmp_path / f"{len(served)}.chats", host, **options))  # type: ignore[arg-type]
        return served[-1]

    yield start
    for each in served:
        each.close()


OWN = [
    ("GET", "/chats", ""),
    ("GET", "/chats?search=text", ""),
    ("GET", "/chats/export", ""),
    ("GET", "/chats/c1", ""),
    ("PUT", "/chats/c1", "{}"),
    ("PATCH", "/chats/c1", '{"title":"x"}'),
    ("PUT", "/chats/c1/messages/m3", '{"role":"user","content":"x"}'),
    ("DELETE", "/chats/c1/messages/m1", ""),
    ("DELETE", "/chats/c1", ""),
    ("POST", "/chats/import", '{"format":"holdall.chats","version":1,"chats":[]}'),
    ("POST", "/quit", ""),
]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.1:80, 127.0.0.1", "Forwarded": "for=192.0.2.1"},
    ],
    ids=["plain", "forwarded", "forwarded twice"],
)
def test_another_user_has_none_of_what_is_the_persons_own(
    serve: Callable[..., Served], headers: dict[str, str]
) -> None:
    served = serve(owner=owner_of_strangers())
    for method, path, body in OWN:
        answer = send("127.0.0.1", served.port, written(method, path, body, **headers))
        assert answer.startswith("HTTP/1.1 403 "), (method, path, answer)
        assert "another user of this computer" in answer
        assert "text of m1" not in answer
    assert served.chats() == ["c1"]
    assert served.ended == []


def test_another_user_has_the_model_and_a_page_without_history(serve: Callable[..., Served]) -> None:
    served = serve(owner=owner_of_strangers())
    completion = send("127.0.0.1", served.port, written("POST", "/completion", '{"prompt":"a","n_predict":2}'))
    assert completion.startswith("HTTP/1.1 200 ")
    page = send("127.0.0.1", served.port, written("GET", "/page.json"))
    assert page.startswith("HTTP/1.1 200 ")
    assert '"has_history":false' in page
    assert "another user of this computer" in page


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_the_person_has_it_all(serve: Callable[..., Served], host: str) -> None:
    served = serve(host)
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    assert served.peers.can_tell
    assert "text of m1" in send(near, served.port, written("GET", "/chats/export"), is_stranger=False)
    assert '"has_history":true' in send(near, served.port, written("GET", "/page.json"), is_stranger=False)


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("::1", "::1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),  # a socket of IPv6 that speaks IPv4, as Java's do
        ("0.0.0.0", "127.0.0.2"),
        ("0.0.0.0", "own address"),
    ],
)
def test_no_way_round_by_another_address_of_this_computer(serve: Callable[..., Served], host: str, near: str) -> None:
    served = serve(host, owner=owner_of_strangers())
    if near == "own address":
        near = own_address()
    assert send(near, served.port, written("GET", "/chats")).startswith("HTTP/1.1 403 ")


def own_address() -> str:
    """Return an address of this computer that isn't loopback; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this computer has no address but loopback")
        address: str = probe.getsockname()[0]
        return address


@pytest.mark.parametrize("how", ["leave", "half"])
def test_who_sends_and_is_gone_changes_nothing(serve: Callable[..., Served], how: str) -> None:
    served = serve(owner=owner_of_strangers())
    for _ in range(20):
        send("127.0.0.1", served.port, written("DELETE", "/chats/c1"), how)
    # One that stays comes behind them all.
    assert send("127.0.0.1", served.port, written("GET", "/chats")).startswith("HTTP/1.1 403 ")
    assert served.chats() == ["c1"]


def test_a_key_says_more_than_a_user(serve: Callable[..., Served]) -> None:
    served = serve(keys=("secret",), owner=owner_of_strangers())
    assert send("127.0.0.1", served.port, written("GET", "/chats")).startswith("HTTP/1.1 401 ")
    with_key = written("GET", "/chats/c1", Authorization="Bearer secret")
    assert "text of m1" in send("127.0.0.1", served.port, with_key)


def connected() -> tuple[socket.socket, socket.socket, socket.socket]:
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    return listening, client, listening.accept()[0]


def test_only_the_owner_of_an_open_socket_is_one() -> None:
    listening, client, server = connected()
    mine, somebodys = Peers(listening), Peers(listening, os.geteuid() + 1)
    ends = client.getsockname(), server.getsockname()
    assert not mine.is_another_user(*ends)
    assert somebodys.is_another_user(*ends) is (os.geteuid() != 0)  # root is let in everywhere
    client.close()
    assert mine.is_another_user(*ends)
    nobody = ("127.0.0.1", 1), listening.getsockname()
    assert mine.is_another_user(*nobody)
    far = ("192.0.2.7", 40000), listening.getsockname()
    assert not mine.is_another_user(*far)  # from another computer: --host let it in
    for each in (mine, somebodys, server, listening):
        each.close()


def test_a_listening_socket_of_ours_vouches_for_nobody() -> None:
    """The kernel names a listening socket where there is no connection; it says nothing of who has asked."""
    listening, client, server = connected()
    peers = Peers(listening)
    assert peers.is_another_user(listening.getsockname(), ("127.0.0.1", 1))
    for each in (peers, client, server, listening):
        each.close()


def test_a_system_that_tells_nothing_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    listening, client, server = connected()
    monkeypatch.delattr(socket, "AF_NETLINK")
    peers = Peers(listening, os.geteuid() + 1)
    assert not peers.can_tell
    assert not peers.is_another_user(client.getsockname(), server.getsockname())
    for each in (peers, client, server, listening):
        each.close()

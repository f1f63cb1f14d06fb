import contextlib
import os
import socket
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import PortInUse, UsageError
from runtime.program import launch


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def bound_to(*hosts: str, port: int | None = 0) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as sockets:
        yield [sockets.enter_context(bound) for bound in launch.bind(hosts, port)]


def test_a_named_port_that_is_taken_is_an_error_that_names_it(taken: int) -> None:
    with pytest.raises(PortInUse, match=f"port {taken} on 127.0.0.1 is taken"):
        launch.bind(["127.0.0.1"], taken)


def test_without_a_named_port_the_next_free_one_is_used(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "DEFAULT_PORT", taken)
    with bound_to("127.0.0.1", port=None) as (bound,):
        assert taken < bound.getsockname()[1] < taken + 100


def test_when_every_port_is_taken_it_says_so(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "DEFAULT_PORT", taken)
    monkeypatch.setattr(launch, "_NUM_PORTS_TRIED", 1)
    with pytest.raises(PortInUse):
        launch.bind(["127.0.0.1"], None)


def test_the_socket_listens_at_once() -> None:
    with bound_to("127.0.0.1") as (bound,):
        socket.create_connection(bound.getsockname(), timeout=5).close()


def ipv6_is_here() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6_is_here(), reason="this computer has no IPv6")
def test_several_addresses_share_one_port() -> None:
    with bound_to("127.0.0.1", "::1") as bound:
        assert len({each.getsockname()[1] for each in bound}) == 1
        for each in bound:
            socket.create_connection(each.getsockname()[:2], timeout=5).close()
    with bound_to("::", "0.0.0.0") as bound:  # the one doesn't take the other's port
        assert [each.family for each in bound] == [socket.AF_INET6, socket.AF_INET]


def test_where_one_address_is_taken_the_others_are_given_back(taken: int) -> None:
    with pytest.raises(PortInUse, match=r"on 127\.0\.0\.1 "):
        launch.bind(["127.0.0.2", "127.0.0.1"], taken)
    with socket.create_server(("127.0.0.2", taken)):
        pass


def test_an_address_that_is_not_ours_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match=r"--host 192\.0\.2\.1: this computer can't listen there"):
        launch.bind(["192.0.2.1"], 0)
    with pytest.raises(UsageError, match="--host no such host"):
        launch.bind(["no such host"], 0)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:{}"), ("0.0.0.0", "http://127.0.0.1:{}")]
)
def test_the_address_is_one_that_a_browser_here_can_open(host: str, address: str) -> None:
    with bound_to(host) as (bound,):
        assert launch.address_of(bound) == address.format(bound.getsockname()[1])


def test_programs_we_start_get_their_own_library_path_back(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"LD_LIBRARY_PATH": "/tmp/bundle", "LD_LIBRARY_PATH_ORIG": "/usr/local/lib"}
    launch.restore_environment(environment)
    assert environment == {"LD_LIBRARY_PATH": "/usr/local/lib"}
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    environment = {"LD_LIBRARY_PATH": "/tmp/bundle"}
    launch.restore_environment(environment)
    assert environment == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a screen")
def test_the_page_opens_only_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "told")
    monkeypatch.setattr(webbrowser, "open", lambda url: (tmp_path / "told").write_text(url, encoding="ascii"))
    launch.open_page("http://127.0.0.1:1", {})
    launch.open_page("http://127.0.0.1:2", {"DISPLAY": ":0"})
    assert (tmp_path / "told").read_text(encoding="ascii") == "http://127.0.0.1:2"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux a process of its own opens the page")
def test_nothing_of_the_program_stays_open_for_as_long_as_the_browser(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("told", "held"):
        os.mkfifo(tmp_path / name)

    def browse(_url: str) -> None:
        (tmp_path / "told").write_text("open", encoding="ascii")
        (tmp_path / "held").read_bytes()  # until the test lets go

    monkeypatch.setattr(webbrowser, "open", browse)
    ours, theirs = socket.socketpair()
    with bound_to("127.0.0.1") as bound, ours:
        address = bound[0].getsockname()
        launch.open_page("http://127.0.0.1:1", {"DISPLAY": ":0"})
        assert (tmp_path / "told").read_text(encoding="ascii") == "open"
        theirs.close()
        ours.settimeout(30)
        assert ours.recv(1) == b""  # its other end is closed everywhere
    with socket.create_server(address):
        pass
    (tmp_path / "held").write_bytes(b"")


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_only_a_loopback_address_is_this_computer_alone(host: str, expected: bool) -> None:
    with bound_to(host) as (bound,):
        assert launch.is_local(bound) is expected

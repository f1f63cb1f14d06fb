import socket
import sys
import webbrowser
from collections.abc import Iterator

import pytest

from runtime import launch
from runtime.errors import PortInUse, UsageError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_named_port_that_is_taken_is_an_error_that_names_it(taken: int) -> None:
    with pytest.raises(PortInUse, match=f"port {taken} on 127.0.0.1 is taken"):
        launch.bind("127.0.0.1", taken)


def test_without_a_named_port_the_next_free_one_is_used(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "DEFAULT_PORT", taken)
    with launch.bind("127.0.0.1", None) as bound:
        assert taken < bound.getsockname()[1] < taken + 100


def test_when_every_port_is_taken_it_says_so(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "DEFAULT_PORT", taken)
    monkeypatch.setattr(launch, "_NUM_PORTS_TRIED", 1)
    with pytest.raises(PortInUse):
        launch.bind("127.0.0.1", None)


def test_the_socket_listens_at_once() -> None:
    with launch.bind("127.0.0.1", 0) as bound:
        socket.create_connection(bound.getsockname(), timeout=5).close()


def test_an_address_that_is_not_ours_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match=r"--host 192\.0\.2\.1: this computer can't listen there"):
        launch.bind("192.0.2.1", 0)
    with pytest.raises(UsageError, match="--host no such host"):
        launch.bind("no such host", 0)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:{}"), ("0.0.0.0", "http://127.0.0.1:{}")]
)
def test_the_address_is_one_that_a_browser_here_can_open(host: str, address: str) -> None:
    with launch.bind(host, 0) as bound:
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
def test_the_page_opens_only_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert launch.open_page("http://127.0.0.1:1", {}) is None
    opener = launch.open_page("http://127.0.0.1:2", {"DISPLAY": ":0"})
    assert opener is not None
    opener.join(timeout=5)
    assert opened == ["http://127.0.0.1:2"]


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_only_a_loopback_address_is_this_computer_alone(host: str, expected: bool) -> None:
    with launch.bind(host, 0) as bound:
        assert launch.is_local(bound) is expected

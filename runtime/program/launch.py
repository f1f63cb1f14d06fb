"""A launch as a person meets it: a port that is free, an address to read, a page that opens."""

import contextlib
import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping, MutableMapping, Sequence

from runtime.errors import PortInUse, UsageError

DEFAULT_PORT = 8080
_NUM_PORTS_TRIED = 100
_SIGNS_OF_A_SCREEN = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")


def bind(hosts: Sequence[str], port: int | None) -> list[socket.socket]:
    """Return a bound socket for each host, all on one port; with no `port` the first from 8080 on that is free.

    Raises PortInUse when the named port, or every tried one, is taken, and UsageError when an address isn't ours.
    """
    if port is not None:
        return _bind_all(hosts, port)
    for candidate in range(DEFAULT_PORT, DEFAULT_PORT + _NUM_PORTS_TRIED):
        try:
            return _bind_all(hosts, candidate)
        except PortInUse:
            continue
    raise PortInUse(hosts[0], DEFAULT_PORT)


def _bind_all(hosts: Sequence[str], port: int) -> list[socket.socket]:
    with contextlib.ExitStack() as unless_all_are:
        bound = [unless_all_are.enter_context(_bind(hosts[0], port))]
        shared_port = bound[0].getsockname()[1]  # port 0 has become a number
        bound += [unless_all_are.enter_context(_bind(host, shared_port)) for host in hosts[1:]]
        unless_all_are.pop_all()
    return bound


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--host {host}: there is no such address ({error.strerror})") from error
    bound = socket.socket(family, kind, protocol)
    try:
        # A port that was in use until a moment ago is free; Linux still refuses one that somebody listens on.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # not IPv4's addresses as well: they may be asked for beside it
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(socket.SOMAXCONN)  # here, not later: two programs may bind the same port, only one may listen
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port) from error
        if error.errno == errno.EACCES:
            raise UsageError(f"--port {port}: this port needs more rights; choose one above 1023") from error
        raise UsageError(f"--host {host}: this computer can't listen there ({error.strerror})") from error
    return bound


def is_local(bound: socket.socket) -> bool:
    """Whether only programs on this computer reach a socket."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def address_of(bound: socket.socket) -> str:
    """Return the URL to open in a browser on this computer."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def restore_environment(environment: MutableMapping[str, str]) -> None:
    """Undo the library path that the bootloader set for us, so that programs we start find their own libraries."""
    original = environment.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is not None:
        environment["LD_LIBRARY_PATH"] = original
    elif getattr(sys, "frozen", False):
        environment.pop("LD_LIBRARY_PATH", None)


def open_page(url: str, environment: Mapping[str, str]) -> None:
    """Open the page in the person's browser, beside the caller, where there is a screen to show it on.

    On Linux a process of its own does it, which the sandbox that this process enters doesn't hold for: a browser has to
    start programs, and now and then one with more rights. Call it while this process has no other threads. That
    process lets go of what is open here: the port would stay taken, and the nursery live, for as long as the browser.
    """
    if not sys.platform.startswith("linux"):
        threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
        return
    # Without a display `webbrowser` falls back to text browsers, which would take over the terminal.
    if not any(environment.get(name) for name in _SIGNS_OF_A_SCREEN):
        return
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        return
    try:
        if os.fork() == 0:  # whose parent ends at once, so that nobody has to wait for it
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            webbrowser.open(url)
    finally:
        os._exit(0)

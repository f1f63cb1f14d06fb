"""The command line's edge: words and environment → settings and files → a program's life → an exit status.

The only place that catches what a person can cause, and that says so.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import __version__
from runtime.container import Container, locate
from runtime.errors import HistoryError, HoldallError
from runtime.printable import printable
from runtime.program import launch, parts, settings
from runtime.program.life import Program
from runtime.program.options import Settings

if TYPE_CHECKING:
    import socket

    from runtime.store.store import ChatStore


def main() -> int:
    """Run the program and return its exit status. The only catcher of what a person can cause."""
    launch.restore_environment(os.environ)
    words, executable = sys.argv[1:], Path(sys.executable)
    try:
        return _run(words, os.environ, executable)
    except HoldallError as error:
        if settings.is_verbose(words, os.environ, _args_of(executable)):
            _say(traceback.format_exc().rstrip("\n"), keeps="\n")
        _say(f"error: {error}")
        return error.exit_status


def _run(words: list[str], environment: Mapping[str, str], executable: Path) -> int:
    asked = settings.from_words(words, origin=settings.COMMAND_LINE)
    if "show_help" in asked:
        print(settings.help_text(Path(sys.argv[0]).name))
        return 0
    container = locate(executable)
    if "show_version" in asked:
        print(printable(f"holdall {__version__}" + (f" with {container.manifest.name}" if container else "")))
        return 0
    chosen = settings.read(
        words,
        environment,
        args=container.args() if container else (),
        manifest=container.manifest.defaults if container else {},
    )
    found = parts.find(chosen, container, executable)
    chosen = parts.with_files_read(chosen)
    bound = launch.bind(chosen.host, chosen.port)
    _greet(found.name, chosen, bound, environment)
    open_store = None if chosen.no_history else lambda: _open_store(container, found.name, environment)
    return asyncio.new_event_loop().run_until_complete(Program(chosen, found, open_store).serve(bound))


def _greet(name: str, chosen: Settings, bound: "list[socket.socket]", environment: Mapping[str, str]) -> None:
    """Say where the program is, and show its page."""
    url = launch.address_of(bound[0])
    taken = chosen.port is None and bound[0].getsockname()[1] != launch.DEFAULT_PORT
    _say(f"{name} is at {url}" + (f" (port {launch.DEFAULT_PORT} was taken)" if taken else "") + "; Ctrl-C ends it")
    if not chosen.api_keys and not all(map(launch.is_local, bound)):
        _say("warning: other computers can use it without a key; --api-key KEY asks for one")
    if chosen.ui and not (chosen.server or chosen.nobrowser):
        launch.open_page(url, environment)


def _open_store(container: Container | None, name: str, environment: Mapping[str, str]) -> "ChatStore":
    """Open the chats of this bundle, whichever model it runs with. Says why it can't be, and raises HistoryError."""
    from runtime.store.place import chats_file
    from runtime.store.store import ChatStore

    identity = (container.manifest.face.id or container.manifest.name) if container else name
    path = None
    try:
        path = chats_file(Path(sys.executable), identity, environment, sys.platform)
        return ChatStore(path)
    except HistoryError as error:
        _say(f"warning: {error}" + (f" [{path}]" if path else ""))
        raise


def _args_of(executable: Path) -> list[str]:
    """Return the bundle's default arguments, as far as they can be read."""
    try:
        container = locate(executable)
        return container.args() if container else []
    except HoldallError:
        return []


def _say(text: str, *, keeps: str = "") -> None:
    print(printable(text, keeps=keeps), file=sys.stderr, flush=True)

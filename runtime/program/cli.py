"""The command line's edge: words and environment → settings and files → a program's life → an exit status.

The only place that catches what a person can cause, and that says so.
"""

import asyncio
import contextlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import __version__, sandbox
from runtime.container import Container, locate
from runtime.engine.guidance import compiler
from runtime.errors import HistoryError, HoldallError
from runtime.nursery import Nursery
from runtime.printable import printable
from runtime.program import launch, parts, settings
from runtime.program.life import Program
from runtime.program.options import Settings
from runtime.program.parts import Found
from runtime.program.trial import NotTried, Trial
from runtime.server.door.peers import Peers

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
    with contextlib.ExitStack() as at_the_end:
        nursery = at_the_end.enter_context(contextlib.closing(_nursery()))  # before there is a key or a socket
        chosen = parts.with_files_read(chosen)
        bound = launch.bind(chosen.host, chosen.port)
        peers = at_the_end.enter_context(contextlib.closing(Peers(bound[0])))
        _greet(found.name, chosen, bound, peers, environment)
        open_store = None if chosen.no_history else lambda: _open_store(container, found.name, environment)
        trial = _begin_trial(found, is_sandboxed=not chosen.no_sandbox)
        if not chosen.no_sandbox:
            _enter_sandbox(chosen, found, container, environment)
        program = Program(chosen, found, peers, nursery=nursery, trial=trial, open_store=open_store)
        return asyncio.new_event_loop().run_until_complete(program.serve(bound))


def _nursery() -> Nursery:
    return Nursery.start(preparations=[compiler.PREPARATION], tasks=[compiler.TASK])


def _greet(
    name: str, chosen: Settings, bound: "list[socket.socket]", peers: Peers, environment: Mapping[str, str]
) -> None:
    """Say where the program is, and show its page."""
    url = launch.address_of(bound[0])
    taken = chosen.port is None and bound[0].getsockname()[1] != launch.DEFAULT_PORT
    _say(f"{name} is at {url}" + (f" (port {launch.DEFAULT_PORT} was taken)" if taken else "") + "; Ctrl-C ends it")
    keeps_chats = chosen.ui and not chosen.no_history
    if not chosen.api_keys and not all(map(launch.is_local, bound)):
        what = "use it, and read its chats," if keeps_chats else "use it"
        _say(f"warning: other computers can {what} without a key; --api-key KEY asks for one")
    if not chosen.api_keys and keeps_chats and not peers.can_tell:
        _say("warning: other users of this computer can read its chats; --api-key KEY keeps them out")
    if chosen.ui and not (chosen.server or chosen.nobrowser):
        launch.open_page(url, environment)


def _begin_trial(found: Found, *, is_sandboxed: bool) -> Trial | None:
    """Have files from outside used in a child, which is started before the sandbox."""
    if not found.from_outside:
        return None
    files = found.parts
    try:
        return Trial(
            files.weights,
            draft=files.draft,
            projector=files.projector,
            adapters=[adapter.extent for adapter in files.adapters],
            blamed=found.from_outside,
            is_sandboxed=is_sandboxed,
        )
    except NotTried as error:
        _say(f"warning: the model could not be tried before its use: {error}")
        return None


def _enter_sandbox(chosen: Settings, found: Found, container: Container | None, environment: Mapping[str, str]) -> None:
    """Give up what serving doesn't need. After the page is opened, before a thread is started."""
    writes = [chosen.slot_save_path] if chosen.slot_save_path else []
    if chosen.ui and not chosen.no_history:
        with contextlib.suppress(HistoryError):  # whoever opens the chats says it
            writes.append(_chats_path(container, found.name, environment).parent)  # SQLite's journal is beside them
    for folder in writes:
        with contextlib.suppress(OSError):  # whoever writes there says it
            # A rule of the sandbox is bound to what is there, so it can't be made later.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    entered = sandbox.enter([extent.path for extent in found.parts.extents()], writes)
    if chosen.verbose:
        _say(entered)


def _chats_path(container: Container | None, name: str, environment: Mapping[str, str]) -> Path:
    """Return where the chats of this bundle are, whichever model it runs with. Raises HistoryError."""
    from runtime.store.place import chats_file

    identity = (container.manifest.face.id or container.manifest.name) if container else name
    return chats_file(Path(sys.executable), identity, environment, sys.platform)


def _open_store(container: Container | None, name: str, environment: Mapping[str, str]) -> "ChatStore":
    """Open the chats of this bundle. Says why it can't be, and raises HistoryError."""
    from runtime.store.store import ChatStore

    path = None
    try:
        path = _chats_path(container, name, environment)
        return ChatStore(path, lambda remark: _say(f"warning: {remark} [{path}]"))
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

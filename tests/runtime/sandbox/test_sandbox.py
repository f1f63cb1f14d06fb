"""What the sandbox refuses, tried from within; and what goes on working in it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime import sandbox
from runtime.sandbox import landlock

ROOT = Path(__file__).parents[3]
REFUSED = {"EPERM", "EACCES"}
HAS_LANDLOCK = landlock.abi_version() > 0
needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine not in ("x86_64", "aarch64"),
    reason="there is no seccomp here that the sandbox knows",
)
needs_landlock = pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock, which guards the files")

Try = Callable[[str], dict[str, Any]]
# What seccomp can't see, for it is a matter of paths.
OF_PATHS = {
    *("read", "read by a link", "read by /proc", "list", "write", "make", "make a folder", "make a link"),
    *("make a hard link", "make a fifo", "delete", "rename", "delete a folder"),
    *("read another's environment", "read another's memory", "write one's own memory"),
}
# What Landlock leaves to seccomp.
OF_CALLS = {
    *("change the rights", "change the owner", "change an attribute", "fork", "make a pair for datagrams"),
    *("ask a name server", "talk to the kernel", "type on the terminal", "type on the terminal, by a wider number"),
    *("call a service of the desktop", "signal all processes"),
}


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Try]:
    """Give a function that tries all of attempts.py in a mode, beside a folder that nobody is to touch."""
    secret = tmp_path / "secret"
    (secret / "folder").mkdir(parents=True)
    (secret / "diary").write_text("Dear diary")
    (secret / "link").symlink_to("diary")
    (tmp_path / "own").mkdir()
    (tmp_path / "model").write_text("weights")
    before = sorted(secret.rglob("*"))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def attempt_in(mode: str) -> dict[str, Any]:
            words = [mode, str(tmp_path), str(port), str(listening.fileno())]
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"hello")
                said = subprocess.run(
                    [sys.executable, "-m", "tests.runtime.sandbox.attempts", *words],
                    cwd=ROOT,
                    capture_output=True,
                    timeout=60,
                    check=False,
                    pass_fds=[listening.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            assert said.returncode == 0, said.stderr.decode()
            if mode in ("both", "no files") and HAS_LANDLOCK:
                assert (secret / "diary").read_text() == "Dear diary"
                assert sorted(secret.rglob("*")) == before
            outcomes: dict[str, Any] = json.loads(said.stdout)
            return outcomes

        yield attempt_in


@needs_linux
def test_what_is_to_be_refused_is_possible_without_the_sandbox(attempt: Try) -> None:
    here = attempt("none")["here"]
    # The others meet what an earlier one has deleted, or somebody's memory that is guarded anyhow.
    for name in ("read", "read by a link", "read by /proc", "list", "write", "make", "fork", "spawn", "delete"):
        assert here[name] == "done"
    assert here["connect over IPv4"] == here["ask a name server"] == here["make a pair for datagrams"] == "done"


@needs_linux
@needs_landlock
def test_nothing_but_what_answering_takes_is_left(attempt: Try) -> None:
    outcomes = attempt("both")
    for thread in ("here", "thread"):
        assert {name: outcome for name, outcome in outcomes[thread].items() if outcome not in REFUSED} == {}


@needs_linux
def test_what_answering_takes_goes_on(attempt: Try) -> None:
    needed = attempt("both")["needed"]
    assert set(needed.values()) == {"done"}, needed


@needs_linux
def test_seccomp_alone_refuses_all_but_what_is_a_matter_of_paths(attempt: Try) -> None:
    outcomes = attempt("calls")
    for thread in ("here", "thread"):
        refused = {name for name, outcome in outcomes[thread].items() if outcome == "EPERM"}
        assert set(outcomes[thread]) - refused <= OF_PATHS
    assert set(outcomes["calls"].values()) == {"EPERM"}, outcomes["calls"]


@needs_landlock
def test_landlock_alone_refuses_files_programs_and_connections(attempt: Try) -> None:
    version = landlock.abi_version()
    later = (
        {"listen", "connect a socket from before", "connect over IPv4", "connect over IPv6"} if version < 4 else set()
    )
    later |= {"signal another process"} if version < 6 else set()
    later |= {"empty"} if version < 3 else set()
    outcomes = attempt("files")
    for thread in ("here", "thread"):
        left = {name for name, outcome in outcomes[thread].items() if outcome not in REFUSED}
        assert left <= OF_CALLS | later


@needs_linux
def test_a_child_that_has_loaded_all_it_needs_opens_nothing_at_all(attempt: Try) -> None:
    outcomes = attempt("no files")
    assert {name for name, outcome in outcomes["here"].items() if outcome not in REFUSED} == set()
    computing = {"start a thread", "accept", "signal itself", "raise", "make a pair of sockets"}
    assert {name for name, outcome in outcomes["needed"].items() if outcome == "done"} == computing


@needs_landlock
def test_a_file_that_takes_no_rule_costs_the_others_none() -> None:
    code = (
        "import os; from pathlib import Path; from runtime.sandbox import landlock; "
        "print(landlock.restrict([(Path(f'/proc/self/fd/{os.memfd_create(str())}'), landlock.READ)]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout == f"{landlock.abi_version()}\n"


def test_it_says_what_is_missing() -> None:
    words = sandbox.described(0, has_seccomp=False)
    assert "this system has no seccomp" in words
    assert "this system has no Landlock" in words
    assert sandbox.described(3, has_seccomp=True) == (
        "sandbox: no programs, processes or connections of its own (seccomp); no files but its own (Landlock 3)"
    )


# The program, with attempts made by the thread that loads, once it has loaded, and by the one that keeps chats.
PROGRAM = """
import json, socket, sys
from pathlib import Path
from runtime.program import cli, life
from tests.runtime.sandbox.attempts import attempts, outcomes

spare = socket.socket()

def then_trying(work, name):
    def wrapped(*arguments, **named):
        result = work(*arguments, **named)
        tried = attempts(Path({secret!r}), {port}, spare)
        Path({said!r}, name).write_text(json.dumps(outcomes(tried)))
        return result
    return wrapped

life.load = then_trying(life.load, "load")
cli._open_store = then_trying(cli._open_store, "store")
sys.argv[1:] = {words!r}
sys.exit(cli.main())
"""


@needs_linux
@needs_landlock
def test_the_program_enters_before_it_starts_a_thread(tmp_path: Path, stories260k: Path) -> None:
    secret, said = tmp_path / "secret", tmp_path / "said"
    (secret / "folder").mkdir(parents=True)
    (secret / "diary").write_text("Dear diary")
    (secret / "link").symlink_to("diary")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        words = ["-m", str(stories260k), "--port", "0", "--nobrowser", "--slot-save-path", str(said)]
        port = listening.getsockname()[1]
        code = PROGRAM.format(secret=str(secret), said=str(said), words=words, port=port)
        variables = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
        program = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=variables
        )
        try:
            assert program.stderr is not None
            address = program.stderr.readline().split(" is at ")[1].split(";")[0]
            httpx.post(f"{address}/tokenize", json={"content": "Once"}, timeout=60).raise_for_status()
            assert httpx.get(f"{address}/chats", timeout=60).json() == {"chats": []}
        finally:
            program.send_signal(signal.SIGTERM)
            _, rest = program.communicate(timeout=30)
    assert (program.returncode, rest) == (0, "")
    for thread in ("load", "store"):
        outcomes = json.loads((said / thread).read_text())
        assert {name: outcome for name, outcome in outcomes.items() if outcome not in REFUSED} == {}

"""A bundle as a running process: started, asked, watched and ended as a person or a script would."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def build(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bundler", "build", *arguments, "-o", str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds} s")
        time.sleep(0.01)


class Process:
    """One launch of a bundle with a temporary folder, and a data folder, of its own."""

    def __init__(
        self, bundle: Path, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.log = folder / "log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        if "--port" not in arguments:
            arguments = (*arguments, "--port", str(self.port))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(bundle), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "TMPDIR": str(self.temporary),
                    "XDG_DATA_HOME": str(folder / "data"),
                    **(environment or {}),
                },
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_ready(self) -> "Process":
        def is_ready() -> bool:
            assert self.process.poll() is None, f"it ended: {self.said}"
            try:
                return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_ready, 60, "becoming ready")
        return self

    @property
    def worker_pid(self) -> int:
        """The process that serves: the child of the one that unpacked it."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the launched process and wait until it has ended."""
        self.process.send_signal(number)
        self.process.wait(timeout=30)

    def kill_if_alive(self) -> None:
        if self.process.poll() is None:
            self.end()

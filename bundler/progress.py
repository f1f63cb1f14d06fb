"""All that the bundler says while it works, through one object; what it says at the end is the command line's own.

On a terminal the running step is one live line; elsewhere each step is a line of its own, and long ones say now and
then how far they are, so that a log shows life. Everything goes to one stream, normally stderr.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from runtime.printable import printable

_LIVE_SECONDS = 0.1  # between updates of a live line
_PLAIN_SECONDS = 10.0  # between signs of life where there is no live line
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Talks to the person who builds. Quiet says nothing but notes."""

    def __init__(self, stream: TextIO, *, is_quiet: bool = False) -> None:
        self._stream = stream
        self._is_quiet = is_quiet
        self._is_live = stream.isatty()

    def step(self, message: str) -> None:
        """Say what is being done now."""
        if not self._is_quiet:
            self._line(message)

    def note(self, message: str) -> None:
        """Say something the person should know, quiet or not."""
        self._line(message)

    @contextmanager
    def bytes(self, label: str, total: int | None) -> Iterator["ByteCounter"]:
        """Follow a transfer of `total` bytes (None: unknown); call `advance` on what this yields."""
        counter = ByteCounter(self, label, total)
        yield counter
        counter.finish()

    def say_running(self, line: str) -> None:
        """Show how far a transfer is: replaces the live line, or is a line of its own."""
        if not self._is_quiet:
            shown = printable(line)
            self._write(f"{_CLEAR_LINE}{shown}" if self._is_live else f"{shown}\n")

    def seconds_between_updates(self) -> float:
        return _LIVE_SECONDS if self._is_live else _PLAIN_SECONDS

    def end_line(self) -> None:
        """Take a live line away, so that an error begins on a line of its own."""
        if self._is_live:
            self._write(_CLEAR_LINE)

    def _line(self, message: str) -> None:
        self._write(f"{_CLEAR_LINE if self._is_live else ''}{printable(message)}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class ByteCounter:
    """One transfer being followed."""

    def __init__(self, progress: Progress, label: str, total: int | None) -> None:
        self._progress = progress
        self._label = label
        self._total = total
        self._num_done = 0
        self._started = self._said = time.monotonic()

    def advance(self, num_bytes: int) -> None:
        """Count bytes; a negative number takes back what has to be transferred again."""
        self._num_done += num_bytes
        now = time.monotonic()
        if now - self._said >= self._progress.seconds_between_updates():
            self._said = now
            self._progress.say_running(self._sentence())

    def finish(self) -> None:
        """Leave one line that says how much it was and how long it took."""
        seconds = time.monotonic() - self._started
        self._progress.step(f"{self._label}: {format_bytes(self._num_done)} in {seconds:.1f} s")

    def _sentence(self) -> str:
        if not self._total:
            return f"{self._label}: {format_bytes(self._num_done)}"
        percent = 100 * self._num_done // self._total
        return f"{self._label}: {percent} % of {format_bytes(self._total)}"


def format_bytes(size: int) -> str:
    """Return a size as people write it, in decimal units like disks and downloads are sold."""
    if size < 1000:
        return f"{size} bytes"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"

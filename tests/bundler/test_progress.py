import io

import pytest

from bundler.progress import Progress, format_bytes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("bundler.progress.time.monotonic", lambda: now[0])
    return now


def transfer(progress: Progress, clock: list[float]) -> None:
    with progress.bytes("fetching", 4000) as counter:
        for _ in range(4):
            clock[0] += 6
            counter.advance(1000)


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(clock: list[float]) -> None:
    stream = io.StringIO()
    transfer(Progress(stream), clock)
    assert stream.getvalue() == "fetching: 50 % of 4.0 kB\nfetching: 100 % of 4.0 kB\nfetching: 4.0 kB in 24.0 s\n"


def test_a_terminal_gets_one_line_that_changes(clock: list[float]) -> None:
    stream = Terminal()
    transfer(Progress(stream), clock)
    assert stream.getvalue().count("\r") == 5
    assert stream.getvalue().count("\n") == 1


def test_quiet_says_only_notes(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress(stream, is_quiet=True)
    transfer(progress, clock)
    progress.step("working")
    progress.note("look out")
    assert stream.getvalue() == "look out\n"


def test_an_unknown_total_shows_bytes(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress(stream).bytes("fetching", None) as counter:
        clock[0] = 11
        counter.advance(5)
    assert "fetching: 5 bytes\n" in stream.getvalue()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (98362432, "98.4 MB"), (999_960_000, "1.0 GB"), (5e12, "5.0 TB")],
)
def test_sizes_are_written_as_people_do(size: float, text: str) -> None:
    assert format_bytes(int(size)) == text

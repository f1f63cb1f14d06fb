"""The documentation, as far as a program can check it: links lead somewhere, commands are understood, examples run."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bundler.cli import holdall
from runtime.program import settings
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread
from tests.structure import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "tests" / "clients" / "README.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A path of ours between backticks: with a slash and of a folder that exists, or a file of the reading order.
PATH = re.compile(r"`((?:runtime|bundler|webclient|tests|benchmarks|docs)/[\w./-]*)`")
TIMEOUT_SECONDS = 120


def blocks(language: str) -> list[tuple[str, str]]:
    """Each page's name and a block's text without its indent."""
    return [
        (page.name, re.sub(f"^{found[1]}", "", found[3], flags=re.MULTILINE))
        for page in PAGES
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if found[2] == language
    ]


def commands() -> Iterator[tuple[str, str]]:
    """Each command behind a prompt, as long as its quotation marks are open."""
    for page, text in blocks("console"):
        lines = iter(text.splitlines())
        for line in lines:
            if not line.startswith("$ "):
                continue
            command = line[2:]
            while command.count("'") % 2:
                command += "\n" + next(lines)
            yield page, command


COMMANDS = list(commands())


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_seen() -> None:
    assert {"README.md", "CONTRIBUTING.md", "recipient.md", "developer.md", "distributor.md"} <= {p.name for p in PAGES}
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        target, _, anchor = (found[1] or found[2]).partition("#")
        if target.startswith(("http:", "https:")):
            continue
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}, which isn't there"
        if anchor:
            assert anchor in anchors(there), f"{page.name} links to #{anchor}, which isn't a heading of {there.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_is_there(page: Path) -> None:
    for path in PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{page.name} speaks of {path}, which isn't there"


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[command[:60] for _page, command in COMMANDS])
def test_every_command_is_understood(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    words = words[: words.index("|")] if "|" in words else [word for word in words if word != "&"]
    match words:
        case ["python3", "build.py"] | ["python3", "build.py", "test" | "bench", *_]:
            return
        case ["python3", "build.py", *rest] | [".venv/bin/holdall", *rest]:
            subcommand = holdall.commands[rest[0]]
            assert isinstance(subcommand, click.Command)
            subcommand.make_context(rest[0], rest[1:])
        case ["python3", script]:
            assert (ROOT / script).is_file()
        case [".venv/bin/python", "-m", module, *_]:
            done = subprocess.run(
                [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, timeout=TIMEOUT_SECONDS
            )
            assert done.returncode == 0
        case [bundle, *rest] if bundle.endswith("SmolLM2-135M-Instruct"):
            settings.from_words(rest, origin=page)
        case ["curl" | "chmod" | "unzip", *_]:
            return  # curl's are run below
        case _:
            pytest.fail(f"{page} has a command that nobody checks: {command}")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_from_a_thread(make_app(ScriptedEngine(["The capital of France is Paris."]))) as url:
        yield url.removeprefix("http://")


@pytest.mark.parametrize("command", [command for _page, command in COMMANDS if command.startswith("curl ")])
def test_every_curl_gets_an_answer(command: str, address: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    told = command.replace("localhost:8080", address)
    done = subprocess.run(["bash", "-c", told], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("The capital of France is Paris.", '{"status":"ok"}')


@pytest.mark.parametrize(("page", "source"), blocks("python"))
def test_every_example_runs(page: str, source: str, address: str) -> None:
    told = source.replace("localhost:8080", address).replace("Llamafile()", f'Llamafile(base_url="http://{address}")')
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", told],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


def test_every_flag_is_in_the_developers_table() -> None:
    page = (ROOT / "docs" / "developer.md").read_text(encoding="utf-8")
    table = page[page.index("## Flags") :]
    told = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", table))
    help_text = settings.help_text("bundle")
    known = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", help_text))
    assert told <= known, told - known
    lines = [line for line in help_text.splitlines() if line.startswith("  -")]
    missing = [line for line in lines if not set(re.findall(r"--[\w-]+", line)) & told]
    assert not missing, missing


def test_the_readme_fits_on_two_hundred_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200

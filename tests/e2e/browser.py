"""Fixtures that drive the page in Debian's Chromium as a person would; a conftest imports them.

Deliberately ignorant of where the page comes from: `page` visits whatever `bundle_server.url` says.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, ViewportSize, expect, sync_playwright

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
TIMEOUT_MS = 15_000

CHROMIUM_ARGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class ServesAPage(Protocol):
    """What these fixtures need of `bundle_server`."""

    url: str


@dataclass
class Faults:
    """What went wrong on the page during a test, apart from what the test brings about on purpose."""

    seen: list[str] = field(default_factory=list)
    forgiven: list[str] = field(default_factory=list)

    def forgive(self, fragment: str) -> None:
        """Let faults that contain `fragment` pass."""
        self.forgiven.append(fragment)

    def unforgiven(self) -> list[str]:
        """Return the faults that fail the test."""
        return [fault for fault in self.seen if not any(fragment in fault for fragment in self.forgiven)]


# Per module, not per session: Playwright's synchronous API keeps an event loop running in this thread, and every test
# that calls asyncio.run() between the first browser test and the last would fail.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "chromium is not installed (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS + as_root)
        yield browser
        browser.close()


@pytest.fixture
def faults() -> Faults:
    faults = Faults()
    # Chromium logs every status above 399; a 503 while the model loads is the health route's honest answer.
    faults.forgive("console, health: Failed to load resource: the server responded with a status of 503")
    return faults


@pytest.fixture
def page(browser: Browser, bundle_server: ServesAPage, faults: Faults) -> Iterator[Page]:
    """A page that fails its test on console errors, uncaught errors and requests to any other origin."""
    origin = _origin(bundle_server.url)

    def note_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            place = urlsplit(message.location.get("url", "")).path.lstrip("/")
            faults.seen.append(f"console, {place}: {message.text}")

    def note_request(request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")) and _origin(request.url) != origin:
            faults.seen.append(f"request to another origin: {request.url}")

    context = browser.new_context(viewport=DESKTOP, base_url=bundle_server.url)
    context.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    page = context.new_page()
    page.on("console", note_console)
    page.on("pageerror", lambda error: faults.seen.append(f"uncaught: {error}"))
    page.on("request", note_request)
    yield page
    context.close()
    if faults.unforgiven():
        pytest.fail("\n".join(faults.unforgiven()))


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc

"""The real page in a real browser, with a scripted program behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bundler.pack.page import pack_page
from runtime.server.page.files import WEBCLIENT
from tests.e2e.browser import DESKTOP, PHONE, browser, faults, page  # noqa: F401  # fixtures, used by name
from tests.page.scripted import Script, serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@dataclass
class Served:
    url: str


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "chats.sqlite")


@pytest.fixture(scope="session")
def packed_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files as bundles carry them."""
    folder = tmp_path_factory.mktemp("packed")
    pack_page(WEBCLIENT, folder)
    return folder


@pytest.fixture
def bundle_server(script: Script, packed_page: Path) -> Iterator[Served]:
    with serving(script, packed_page) as url:
        yield Served(url)


def opened(page: Page, size: str, language: str) -> Page:  # noqa: F811
    page.set_viewport_size(PHONE if size == "phone" else DESKTOP)
    page.add_init_script(f"localStorage['holdall.language.1'] ??= '{language}'")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.locator("#bundle-name")).not_to_be_empty()
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#welcome-line")).not_to_be_empty()
    return page


@pytest.fixture
def desktop_chat(page: Page) -> Page:  # noqa: F811
    """The page, opened and ready to be asked, where neither its size nor its language plays a part."""
    return opened(page, "desktop", "en")


@pytest.fixture(params=[("desktop", "en"), ("phone", "fr")], ids="-".join)
def chat(request: pytest.FixtureRequest, page: Page) -> Page:  # noqa: F811
    """The same at both sizes and in both languages."""
    return opened(page, *request.param)


@pytest.fixture(params=[("desktop", "en"), ("desktop", "fr"), ("phone", "en"), ("phone", "fr")], ids="-".join)
def any_chat(request: pytest.FixtureRequest, page: Page) -> Page:  # noqa: F811
    """The same in both languages at each size."""
    return opened(page, *request.param)

"""The program's own page as one value: what `create_app` is given where there is a page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.container import Manifest
from runtime.server.page.files import WEBCLIENT
from runtime.server.page.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The folder of the page's files, the manifest of the model's bundle, the chats, and what ends the program.

    `manifest` None: the model comes from no bundle. `history` None: no chats are kept. `end_program` is called on the
    event loop.
    """

    webclient: Path = WEBCLIENT
    manifest: Manifest | None = None
    history: History | None = None
    end_program: Callable[[], None] = lambda: None

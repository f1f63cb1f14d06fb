"""What every dialect serves: one model, its name, and the defaults of a request."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.engine.sampling import SamplingParams
from runtime.server.lifecycle import Lifecycle

if TYPE_CHECKING:
    from runtime.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Which of llama-server's optional endpoints are served, and the folder where slots are saved."""

    has_slots: bool = True
    has_metrics: bool = False
    has_props: bool = False
    slot_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """`model_alias` is the model's name towards clients; `props` are facts that `/props` adds to its own.

    `default_max_tokens` and `n_keep` hold where a request doesn't name its own.
    """

    lifecycle: Lifecycle
    defaults: SamplingParams
    model_alias: str
    default_max_tokens: int | None
    props: Mapping[str, Any]
    n_keep: int = 0
    offer: Offer = field(default_factory=Offer)
    created: int = field(default_factory=lambda: int(time.time()))

    async def engine(self) -> "Engine":
        """Return the engine once the model is there. Raises Unavailable when it won't be."""
        return await self.lifecycle.engine()

    @property
    def build_info(self) -> str:
        return str(self.props.get("build_info", "holdall"))

"""What every dialect serves: one model, its name, and the defaults of a request."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.engine.interface import AnyEngine
from runtime.engine.values.request import GenerationParams
from runtime.server.asking.conversation import ChatDefaults
from runtime.server.lifecycle import Lifecycle


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFlags:
    """Which of llama-server's optional endpoints are served, and the folder where slots are saved."""

    has_slots: bool = True
    has_metrics: bool = False
    has_props: bool = False
    slot_folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """The GGUF as a file: when it was written, in seconds since 1970, and its sha256 where it is known."""

    size_bytes: int = 0
    modified: float = 0.0
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """`names` are the model's names towards clients, `tags` words about it; `props` are facts that `/props` adds.

    `defaults` and `embd_normalize` hold where a request doesn't name its own.
    """

    lifecycle: Lifecycle
    names: tuple[str, ...]
    props: Mapping[str, Any]
    defaults: GenerationParams = field(default_factory=GenerationParams)
    tags: tuple[str, ...] = ()
    embd_normalize: int = 2
    flags: EndpointFlags = field(default_factory=EndpointFlags)
    model_file: ModelFile = field(default_factory=ModelFile)
    chat: ChatDefaults = field(default_factory=ChatDefaults)
    created: int = field(default_factory=lambda: int(time.time()))

    async def engine(self) -> AnyEngine:
        """Return the engine once the model is there. Raises Unavailable when it won't be."""
        return await self.lifecycle.engine()

    @property
    def model_alias(self) -> str:
        """The name that answers bear."""
        return self.names[0]

    @property
    def build_info(self) -> str:
        return str(self.props.get("build_info", "holdall"))

"""From files and sizes to an engine. This module knows neither containers nor settings."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from runtime.engine.adapters import Adapter, Adapters
from runtime.engine.engine import Engine
from runtime.engine.native import (
    Library,
    LoraAdapter,
    Model,
    Projector,
    read_shape,
    resident_fraction,
    template_names,
)
from runtime.engine.policy.memory import choose_n_ctx, read_memory
from runtime.engine.threads import default_num_threads
from runtime.engine.values.params import EngineParams
from runtime.engine.worker import Post
from runtime.errors import HoldallError, UsageError
from runtime.extent import Extent
from runtime.nursery import Nursery

_DEFAULT_N_CTX = 8192


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """A LoRA adapter, the name that clients see, and the scale it is applied with where a request names none."""

    name: str
    extent: Extent
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The files that an engine is made of."""

    weights: Extent
    draft: Extent | None = None
    projector: Extent | None = None
    adapters: tuple[AdapterPart, ...] = ()

    def extents(self) -> list[Extent]:
        """Return where all of them lie."""
        single = [extent for extent in (self.weights, self.draft, self.projector) if extent is not None]
        return [*single, *(adapter.extent for adapter in self.adapters)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadParams:
    """How the parts are loaded.

    `n_ctx` is the context that was asked for, in tokens: 0 the model's maximum, None a default or what fits of it.
    `chat_template` takes the extent of the model's own: Jinja, or the name of one of llama.cpp's. `engine` holds the
    engine's other sizes; its own n_ctx is chosen here.
    """

    engine: EngineParams
    n_ctx: int | None = None
    n_gpu_layers: int = -1
    chat_template: str | None = None


def load(
    parts: Parts,
    params: LoadParams,
    post: Post,
    *,
    nursery: Nursery | None = None,
    on_log: Callable[[str], None] | None = None,
    on_end: Callable[[HoldallError], None] = lambda _error: None,
) -> Engine:
    """Load libraries and weights, and start the engine. Blocks; call from a thread of its own.

    `on_log` gets what llama.cpp logs, `on_end` why the engine failed for good, if it does.

    Raises ModelError, NotEnoughMemory before anything is loaded, UsageError for a
    chat template that is none.
    """
    library = Library(on_log=on_log)
    is_named = is_template_name(params.chat_template, template_names(library))
    engine = _fitted(library, parts, params)
    model = _model(library, parts.weights, params)
    if params.chat_template is not None:
        model.facts = replace(model.facts, chat_template=params.chat_template, is_template_named=is_named)
    return Engine(
        model,
        engine,
        post,
        _model(library, parts.draft, params) if parts.draft else None,
        _adapters(model, parts.adapters),
        _projector(model, parts.projector, engine) if parts.projector else None,
        nursery=nursery,
        on_end=on_end,
    )


def loaded_fraction(weights: Extent) -> float:
    """Return how much of the weights is in memory, from 0 to 1. Blocks; call from a thread."""
    return resident_fraction(weights.path, weights.offset, weights.size)


def is_template_name(template: str | None, names: tuple[str, ...]) -> bool:
    """Whether a chat template is one of llama.cpp's `names`, and not Jinja. Raises UsageError for what is neither."""
    if template is None or "{" in template or " " in template:
        return False
    if template not in names:
        raise UsageError(
            f"--chat-template: {template!r} is no Jinja template, which --chat-template-file reads from a file, "
            f"and none of llama.cpp's: {', '.join(sorted(names))}"
        )
    return True


def _fitted(library: Library, parts: Parts, params: LoadParams) -> EngineParams:
    """Return the engine's sizes with a context that fits. Raises NotEnoughMemory."""
    engine, weights = params.engine, parts.weights
    n_batch = max(engine.n_batch, engine.num_slots)  # a step has at least a token for each
    n_ctx = choose_n_ctx(
        params.n_ctx,
        _DEFAULT_N_CTX,
        read_shape(library, weights.path, weights.offset, weights.size),
        read_memory(),
        n_batch=n_batch,
        num_slots=engine.num_slots,
        projector_bytes=parts.projector.size if parts.projector else 0,
    )
    return replace(engine, n_ctx=n_ctx, n_batch=n_batch)


def _model(library: Library, extent: Extent, params: LoadParams) -> Model:
    return Model(library, extent.path, extent.offset, n_gpu_layers=params.n_gpu_layers)


def _projector(model: Model, extent: Extent, engine: EngineParams) -> Projector:
    num_threads = engine.num_threads or default_num_threads()
    return Projector(model, extent.path, extent.offset, extent.size, num_threads=num_threads)


def _adapters(model: Model, parts: tuple[AdapterPart, ...]) -> Adapters:
    loaded = [Adapter(part.name, LoraAdapter(model, part.extent.path, part.extent.offset)) for part in parts]
    return Adapters(loaded, tuple(part.scale for part in parts))

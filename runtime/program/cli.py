"""The program's life: settings, model, server, engine, end.

The model is loaded by a thread of its own while the server already listens; whichever happens first, the end of the
load or a signal, the event loop hears of it through `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import __version__
from runtime.chat.template import CHATML
from runtime.container import Container, Extent, MemberKind, locate
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
from runtime.engine.values.facts import Pooling
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import GenerationParams
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import EngineError, HistoryError, HoldallError, ModelError, UsageError
from runtime.program import launch, settings
from runtime.program.options import Settings

if TYPE_CHECKING:
    from runtime.server.asking.conversation import ChatDefaults
    from runtime.server.door.listener import Listener
    from runtime.server.lifecycle import Lifecycle
    from runtime.store.store import ChatStore

_DEFAULT_N_CTX = 8192
_MIB = 1024 * 1024
_SECONDS_BETWEEN_PROGRESS = 0.1
# In the form of llama-server's, `b<number>-<commit>`, which its clients take apart; a source package has no number.
_BUILD_INFO = f"b0-holdall-{__version__}"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the program and return its exit status. The only catcher of what a person can cause."""
    launch.restore_environment(os.environ)
    words = sys.argv[1:]
    try:
        return _run(words, os.environ)
    except HoldallError as error:
        if {"-v", "--verbose"} & set(words):
            traceback.print_exc()
        _say(f"error: {error}")
        return error.exit_status


def _run(words: list[str], environment: Mapping[str, str]) -> int:
    command_line = settings.from_words(words, origin="command line")
    if command_line.pop("show_help", False):
        print(settings.help_text(Path(sys.argv[0]).name))
        return 0
    container = locate(Path(sys.executable))
    if command_line.pop("show_version", False):
        model = f" with {container.manifest.name}" if container else ""
        print(f"holdall {__version__}{model}")
        return 0
    chosen = settings.merge(
        [
            ("manifest", settings.from_mapping(container.manifest.defaults, origin="manifest") if container else {}),
            (".args", settings.from_words(container.args(), origin=".args") if container else {}),
            ("environment", settings.from_environment(environment)),
            ("command line", command_line),
        ]
    )
    name, weights = find_model(chosen, container, Path(sys.executable))
    chosen = with_files_read(chosen)
    bound = launch.bind(chosen.host, chosen.port)
    url = launch.address_of(bound[0])
    taken = chosen.port is None and bound[0].getsockname()[1] != launch.DEFAULT_PORT
    _say(f"{name} is at {url}" + (f" (port {launch.DEFAULT_PORT} was taken)" if taken else "") + "; Ctrl-C ends it")
    if not chosen.api_keys and not all(map(launch.is_local, bound)):
        _say("warning: other computers can use it without a key; --api-key KEY asks for one")
    if chosen.ui and not (chosen.server or chosen.nobrowser):
        launch.open_page(url, environment)
    open_store = None if chosen.no_history else lambda: _open_store(container, name, environment)
    program = Program(chosen, name, weights, container, open_store)
    return asyncio.new_event_loop().run_until_complete(program.serve(bound))


def _open_store(container: Container | None, name: str, environment: Mapping[str, str]) -> "ChatStore":
    """Open the chats of this bundle, whichever model it runs with. Says why it can't be, and raises HistoryError."""
    from runtime.store.place import chats_file
    from runtime.store.store import ChatStore

    identity = (container.manifest.face.id or container.manifest.name) if container else name
    path = None
    try:
        path = chats_file(Path(sys.executable), identity, environment, sys.platform)
        return ChatStore(path)
    except HistoryError as error:
        _say(f"warning: {error}" + (f" [{path}]" if path else ""))
        raise


def with_files_read(chosen: Settings) -> Settings:
    """Return the settings with the keys and the chat template that their files hold.

    Raises UsageError for a file that can't be used.
    """
    keys, template = chosen.api_keys, chosen.chat_template
    if chosen.api_key_file is not None:
        lines = _read_text(chosen.api_key_file, "--api-key-file").splitlines()
        in_file = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
        if not in_file:
            raise UsageError(f"--api-key-file: there is no key in {chosen.api_key_file}; write one a line")
        keys += in_file
    if chosen.chat_template_file is not None:
        template = _read_text(chosen.chat_template_file, "--chat-template-file")
    elif template == "chatml":
        template = CHATML
    return replace(chosen, api_keys=keys, chat_template=template)


def _read_text(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{flag}: {path} is no text in UTF-8") from error
    except OSError as error:
        raise UsageError(f"{flag}: can't read {path}: {error.strerror}") from error


def find_model(chosen: Settings, container: Container | None, executable: Path) -> tuple[str, Extent]:
    """Return the model's name and where its GGUF lies: `-m`, else inside this file, else `<name>.gguf` beside it.

    Raises ModelError when there is none.
    """
    if chosen.model is not None:
        return chosen.model.stem, _whole_file(chosen.model)
    embedded = container.model() if container else None
    if container and embedded:
        return container.manifest.name, embedded
    sidecar = executable.with_suffix(".gguf")
    if sidecar.exists():
        return sidecar.stem, _whole_file(sidecar)
    raise ModelError("there is no model in this file and none beside it; name one with -m MODEL.gguf")


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


def find_draft(chosen: Settings, container: Container | None) -> Extent | None:
    """Return where the draft model's GGUF lies: `-md`, else inside this file when its model is used; None without one.

    Raises ModelError when the file that was named isn't there.
    """
    if chosen.draft_model is not None:
        return _whole_file(chosen.draft_model)
    if container is None or chosen.model is not None:
        return None
    return next(iter(container.extents_of(MemberKind.DRAFT)), None)


def find_projector(chosen: Settings, container: Container | None) -> Extent | None:
    """Return where the projector's GGUF lies, by the same rules; None without one. Raises ModelError."""
    if chosen.projector is not None:
        return _whole_file(chosen.projector)
    if container is None or chosen.model is not None or chosen.no_projector:
        return None
    return next(iter(container.extents_of(MemberKind.PROJECTOR)), None)


def find_adapters(chosen: Settings, container: Container | None) -> list[tuple[str, Extent, float]]:
    """Return each LoRA adapter's name, place and scale: those inside this file when its model is used, then `--lora`.

    Raises ModelError when a file that was named isn't there, UsageError for a scale that is none.
    """
    found: list[tuple[str, Extent, float]] = []
    if container is not None and chosen.model is None:
        members = (member for member in container.manifest.members if member.kind is MemberKind.LORA)
        found += [(member.name, container.extent(member.name), 1.0) for member in members]
    named = [(Path(name), 1.0) for name in chosen.lora]
    for word in chosen.lora_scaled:
        name, _colon, scale = word.rpartition(":")
        try:
            named.append((Path(name), _finite(scale)))
        except ValueError:
            raise UsageError(f"--lora-scaled: {word!r} is not FILE:SCALE") from None
    return found + [(path.name, _whole_file(path), scale) for path, scale in named]


def _finite(text: str) -> float:
    """Return a number that can be computed with. Raises ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _whole_file(path: Path) -> Extent:
    try:
        return Extent(path, 0, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"can't open {path}: {error.strerror}") from error


class Program:
    """The server and the engine from the first request to the last; everything but `_load` runs on the event loop."""

    def __init__(
        self,
        chosen: Settings,
        name: str,
        weights: Extent,
        container: Container | None = None,
        open_store: "Callable[[], ChatStore] | None" = None,
    ) -> None:
        """Without `open_store` no chats are kept."""
        self._settings = chosen
        self._name = name
        self._weights = weights
        self._container = container
        self._open_store = open_store

    async def serve(self, bound: list[socket.socket]) -> int:
        """Serve until a signal comes or the model can't be loaded; return the exit status.

        Raises what the load raised.
        """
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[Engine] = self._loop.create_future()
        # First of all: the weights come in while Python still imports the server.
        threading.Thread(target=self._load, name="load", daemon=True).start()
        from runtime.server.app import create_app
        from runtime.server.door.listener import Listener
        from runtime.server.door.security import Access
        from runtime.server.lifecycle import Lifecycle
        from runtime.server.page.history import History
        from runtime.server.page.page import Page
        from runtime.server.service import EndpointFlags, ModelFile, Service

        chosen = self._settings
        lifecycle = Lifecycle()
        history = History(self._open_store) if self._open_store else None
        service = Service(
            lifecycle=lifecycle,
            defaults=GenerationParams(
                sampling=_sampling_defaults(chosen),
                max_tokens=chosen.n_predict if chosen.n_predict >= 0 else None,
                n_keep=chosen.n_keep,
            ),
            names=tuple(sorted(set(chosen.alias))) or (self._name,),
            tags=chosen.tags,
            embd_normalize=chosen.embd_normalize,
            props={"build_info": _BUILD_INFO, "model_path": f"{self._name}.gguf"},
            flags=EndpointFlags(
                has_slots=chosen.slots,
                has_metrics=chosen.metrics,
                has_props=chosen.props,
                slot_folder=chosen.slot_save_path,
            ),
            model_file=ModelFile(
                size_bytes=self._weights.size,
                modified=self._weights.path.stat().st_mtime,
                sha256=self._container.sha256(self._weights) if self._container else "",
            ),
            chat=_chat_defaults(chosen),
        )
        access = Access(keys=chosen.api_keys, hosts=(*chosen.host, *chosen.allowed_hosts), origins=chosen.cors_origins)
        page = Page(
            manifest=self._container.manifest if self._container and self._settings.model is None else None,
            history=history,
            end_program=lambda: listener.stop(),
        )
        app = create_app(service, access, page if chosen.ui else None)
        listener = Listener(app, verbose=chosen.verbose)
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, listener.stop)
        watch = asyncio.create_task(self._watch_load(lifecycle, listener))
        await listener.run_on(bound)
        lifecycle.set_stopping()
        watch.cancel()
        if history:
            history.close()
        if self._loaded.done():
            self._loaded.result().close()  # or raises why there is no engine
        return 0

    async def _watch_load(self, lifecycle: "Lifecycle", listener: "Listener") -> None:
        """Tell the lifecycle how far the load is and how it ended."""
        weights = self._weights
        while not self._loaded.done():
            fraction = await asyncio.to_thread(resident_fraction, weights.path, weights.offset, weights.size)
            lifecycle.set_progress(fraction)
            await asyncio.wait([self._loaded], timeout=_SECONDS_BETWEEN_PROGRESS)
        error = self._loaded.exception()
        if error is None:
            lifecycle.set_ready(self._loaded.result())
        else:
            lifecycle.set_failed(error)
            listener.stop()

    def _load(self) -> None:
        """Load libraries and weights and start the engine, on a thread of its own."""
        chosen = self._settings
        try:
            library = Library(on_log=_write_through if chosen.verbose else None)
            is_named = is_template_name(chosen.chat_template, template_names(library))
            weights, projector = self._weights, find_projector(chosen, self._container)
            n_batch = max(chosen.n_batch, chosen.n_parallel)  # a step has at least a token for each
            n_ctx = choose_n_ctx(
                chosen.n_ctx,
                _DEFAULT_N_CTX,
                read_shape(library, weights.path, weights.offset, weights.size),
                read_memory(),
                n_batch=n_batch,
                num_slots=chosen.n_parallel,
                projector_bytes=projector.size if projector else 0,
            )
            model = Model(library, weights.path, weights.offset, n_gpu_layers=chosen.n_gpu_layers)
            if chosen.chat_template is not None:
                model.facts = replace(model.facts, chat_template=chosen.chat_template, is_template_named=is_named)
            params = EngineParams(
                n_ctx=n_ctx,
                n_batch=n_batch,
                num_slots=chosen.n_parallel,
                is_shared=chosen.kv_unified,
                max_waiting=chosen.max_queue,
                num_threads=_num_threads(chosen.n_threads),
                context_shift=chosen.context_shift,
                parking_bytes=chosen.cache_ram * _MIB if chosen.cache_ram >= 0 else sys.maxsize,
                has_lookup=chosen.spec_type == "ngram-simple",
                draft_max=chosen.draft_max,
                pooling=Pooling[chosen.pooling.upper()] if chosen.pooling else None,
            )
            draft = find_draft(chosen, self._container)
            draft_model = Model(library, draft.path, draft.offset, n_gpu_layers=chosen.n_gpu_layers) if draft else None
            engine = Engine(
                model,
                params,
                self._post,
                draft_model,
                self._load_adapters(model),
                Projector(model, *astuple(projector), num_threads=_num_encoding_threads(chosen)) if projector else None,
            )
        except Exception as error:
            failure = error if isinstance(error, HoldallError) else EngineError(f"the model can't be loaded: {error!r}")
            self._post(lambda: self._loaded.set_exception(failure))
        else:
            self._post(lambda: self._loaded.set_result(engine))

    def _load_adapters(self, model: Model) -> Adapters:
        places = find_adapters(self._settings, self._container)
        adapters = [Adapter(name, LoraAdapter(model, extent.path, extent.offset)) for name, extent, _scale in places]
        is_applied = not self._settings.lora_init_without_apply
        return Adapters(adapters, tuple(scale if is_applied else 0.0 for _name, _extent, scale in places))

    def _post(self, call: Callable[[], None]) -> None:
        # After its last turn the loop takes no more calls, and nobody is there to hear them.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _num_threads(wanted: int | None) -> int | None:
    return wanted if wanted is not None and wanted > 0 else None


def _num_encoding_threads(chosen: Settings) -> int:
    return _num_threads(chosen.n_threads) or default_num_threads()


def _chat_defaults(chosen: Settings) -> "ChatDefaults":
    from runtime.server.asking.conversation import ChatDefaults

    is_off = chosen.reasoning == "off" or chosen.reasoning_budget == "0"
    return ChatDefaults(
        thinking=False if is_off else (True if chosen.reasoning == "on" else None),
        splits_thinking=chosen.reasoning_format != "none",
        variables=chosen.chat_template_kwargs or {},
        shows_prompts=chosen.verbose,
    )


def _sampling_defaults(chosen: Settings) -> SamplingParams:
    return SamplingParams(
        temperature=chosen.temperature,
        top_k=chosen.top_k,
        top_p=chosen.top_p,
        min_p=chosen.min_p,
        repeat_penalty=chosen.repeat_penalty,
        seed=chosen.seed if chosen.seed >= 0 else None,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write_through(text: str) -> None:
    sys.stderr.write(text)

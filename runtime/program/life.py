"""The program's life: listen, load, stop.

The model is loaded by a thread of its own while the server already listens; whichever happens first, the end of the
load or a signal, the event loop hears of it through `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime import __version__
from runtime.engine.loading import LoadParams, load, loaded_fraction
from runtime.engine.values.answer_settings import MAX_TOKENS, SEED
from runtime.engine.values.facts import Pooling
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import GenerationParams
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import EngineError, HoldallError
from runtime.nursery import Nursery
from runtime.printable import printable
from runtime.program.options import Settings
from runtime.program.parts import Found
from runtime.program.trial import NotTried, Trial
from runtime.server.door.peers import Peers

if TYPE_CHECKING:
    from runtime.engine.engine import Engine
    from runtime.server.asking.conversation import ChatDefaults
    from runtime.server.door.listener import Listener
    from runtime.server.lifecycle import Lifecycle
    from runtime.server.service import Service
    from runtime.store.store import ChatStore

_MIB = 1024 * 1024
_SECONDS_BETWEEN_PROGRESS = 0.1
# In the form of llama-server's, `b<number>-<commit>`, which its clients take apart; a source package has no number.
_BUILD_INFO = f"b0-holdall-{__version__}"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Program:
    """The server and the engine from the first request to the last; everything but `_load` runs on the event loop."""

    def __init__(
        self,
        chosen: Settings,
        found: Found,
        peers: Peers,
        *,
        nursery: Nursery | None = None,
        trial: Trial | None = None,
        open_store: "Callable[[], ChatStore] | None" = None,
    ) -> None:
        """`peers` tells whose a connection is; a `trial` comes before the load. No `open_store`: no chats are kept."""
        self._settings = chosen
        self._found = found
        self._peers = peers
        self._nursery = nursery
        self._trial = trial
        self._open_store = open_store

    async def serve(self, bound: list[socket.socket]) -> int:
        """Serve until a signal comes, the model can't be loaded or the engine fails for good; return the exit status.

        Raises what the load raised, or why the engine failed.
        """
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[Engine] = self._loop.create_future()
        self._ended: asyncio.Future[HoldallError] = self._loop.create_future()  # why the engine failed for good
        # First of all: the weights come in while Python still imports the server.
        threading.Thread(target=self._load, name="load", daemon=True).start()
        from runtime.server.app import create_app
        from runtime.server.door.listener import Listener
        from runtime.server.door.security import Access
        from runtime.server.lifecycle import Lifecycle
        from runtime.server.page.history import History
        from runtime.server.page.page import Page

        chosen, lifecycle = self._settings, Lifecycle()
        history = History(self._open_store) if self._open_store else None
        hosts = (*chosen.host, *chosen.allowed_hosts)
        access = Access(keys=chosen.api_keys, hosts=hosts, origins=chosen.cors_origins, peers=self._peers)
        page = Page(manifest=self._found.manifest, history=history, end_program=lambda: listener.stop())
        app = create_app(_service(chosen, self._found, lifecycle), access, page if chosen.ui else None)
        listener = Listener(app, verbose=chosen.verbose)
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, listener.stop)
        watch = asyncio.create_task(self._watch(lifecycle, listener))
        await listener.run_on(bound)
        lifecycle.set_stopping()
        watch.cancel()
        if history:
            history.close()
        if self._loaded.done():
            self._loaded.result().close()  # or raises why there is no engine
        if self._ended.done():
            raise self._ended.result()
        return 0

    async def _watch(self, lifecycle: "Lifecycle", listener: "Listener") -> None:
        """Report to the lifecycle how far the load is and how it ended, and if the engine fails."""
        while not self._loaded.done():
            with contextlib.suppress(OSError):  # how far it is, is for show
                lifecycle.set_progress(await asyncio.to_thread(loaded_fraction, self._found.parts.weights))
            await asyncio.wait([self._loaded], timeout=_SECONDS_BETWEEN_PROGRESS)
        error = self._loaded.exception()
        if error is None:
            lifecycle.set_ready(self._loaded.result())
            await asyncio.wait([self._ended])  # which a cancel of this task leaves as it is
            error = self._ended.result()
        lifecycle.set_failed(error)
        listener.stop()

    def _load(self) -> None:
        """Load the engine, on a thread of its own."""
        on_log = _write_through if self._settings.verbose else None
        try:
            self._try()
            engine = load(
                self._found.parts,
                _load_params(self._settings),
                self._post,
                nursery=self._nursery,
                on_log=on_log,
                on_end=self._ended.set_result,
            )
        except Exception as error:
            failure = error if isinstance(error, HoldallError) else EngineError(f"the model can't be loaded: {error!r}")
            self._post(lambda: self._loaded.set_exception(failure))
        else:
            self._post(lambda: self._loaded.set_result(engine))

    def _try(self) -> None:
        """Wait until files from outside have been used in a child. Raises ModelError."""
        if self._trial is None:
            return
        try:
            self._trial.finish()
        except NotTried as error:  # such as no room for what a bundle unpacks; the load tells what is wrong
            _write_through(f"warning: the model could not be tried before its use: {error}\n")

    def _post(self, call: Callable[[], None]) -> None:
        # After its last turn the loop takes no more calls, and nobody is there to hear them.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _load_params(chosen: Settings) -> LoadParams:
    return LoadParams(
        n_ctx=chosen.n_ctx,
        n_gpu_layers=chosen.n_gpu_layers,
        chat_template=chosen.chat_template,
        engine=EngineParams(
            n_ctx=chosen.n_ctx or 0,
            n_batch=chosen.n_batch,
            num_slots=chosen.n_parallel,
            is_shared=chosen.kv_unified,
            max_waiting=chosen.max_queue,
            num_threads=chosen.n_threads if chosen.n_threads and chosen.n_threads > 0 else None,
            context_shift=chosen.context_shift,
            parking_bytes=chosen.cache_ram * _MIB if chosen.cache_ram >= 0 else sys.maxsize,
            has_lookup=chosen.spec_type == "ngram-simple",
            draft_max=chosen.draft_max,
            pooling=Pooling[chosen.pooling.upper()] if chosen.pooling else None,
        ),
    )


def _service(chosen: Settings, found: Found, lifecycle: "Lifecycle") -> "Service":
    """Return what every client is served with. Imports the server: call it once the load has begun."""
    from runtime.server.service import EndpointFlags, ModelFile, Service

    weights = found.parts.weights
    return Service(
        lifecycle=lifecycle,
        defaults=GenerationParams(
            sampling=_sampling_defaults(chosen),
            max_tokens=MAX_TOKENS.meaning(chosen.n_predict),
            n_keep=chosen.n_keep,
        ),
        names=tuple(sorted(set(chosen.alias))) or (found.name,),
        tags=chosen.tags,
        embd_normalize=chosen.embd_normalize,
        props={"build_info": _BUILD_INFO, "model_path": f"{found.name}.gguf"},
        flags=EndpointFlags(
            has_slots=chosen.slots,
            has_metrics=chosen.metrics,
            has_props=chosen.props,
            slot_folder=chosen.slot_save_path,
        ),
        model_file=ModelFile(size_bytes=weights.size, modified=weights.path.stat().st_mtime, sha256=found.sha256),
        chat=_chat_defaults(chosen),
    )


def _chat_defaults(chosen: Settings) -> "ChatDefaults":
    from runtime.server.asking.conversation import ChatDefaults

    is_off = chosen.reasoning == "off" or chosen.reasoning_budget == "0"
    return ChatDefaults(
        thinking=False if is_off else (True if chosen.reasoning == "on" else None),
        splits_thinking=chosen.reasoning_format != "none",
        variables=chosen.chat_template_kwargs or {},
        parses_special=chosen.parse_special,
        shows_prompts=chosen.verbose,
    )


def _sampling_defaults(chosen: Settings) -> SamplingParams:
    return SamplingParams(
        temperature=chosen.temperature,
        top_k=chosen.top_k,
        top_p=chosen.top_p,
        min_p=chosen.min_p,
        repeat_penalty=chosen.repeat_penalty,
        seed=SEED.meaning(chosen.seed),
    )


def _write_through(text: str) -> None:
    sys.stderr.write(printable(text, keeps="\n\t"))

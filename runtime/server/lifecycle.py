"""Where the program stands between its first request and its last. Event loop thread only; knows no HTTP."""

import asyncio
from dataclasses import dataclass

from runtime.engine.interface import AnyEngine
from runtime.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is coming in; progress runs from 0 to 1."""

    progress: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """Requests are computed."""

    engine: AnyEngine


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no engine any more, or won't be. The error is for the terminal: it may name paths of this machine."""

    error: BaseException
    has_been_ready: bool


@dataclass(frozen=True, slots=True)
class Stopping:
    """The program is about to end."""


State = Loading | Ready | Failed | Stopping


class Lifecycle:
    """The current state, and a place to wait for the engine. What has failed or is stopping stays so."""

    def __init__(self) -> None:
        self.state: State = Loading()
        self._changed = asyncio.Event()

    def set_progress(self, progress: float) -> None:
        if isinstance(self.state, Loading):
            self.state = Loading(min(max(progress, 0.0), 1.0))

    def set_ready(self, engine: AnyEngine) -> None:
        if isinstance(self.state, Loading):
            self.state = Ready(engine)
            self._changed.set()

    def set_failed(self, error: BaseException) -> None:
        if isinstance(self.state, (Loading, Ready)):
            self.state = Failed(error, isinstance(self.state, Ready))
            self._changed.set()

    def set_stopping(self) -> None:
        self.state = Stopping()
        self._changed.set()

    async def engine(self) -> AnyEngine:
        """Return the engine, waiting while the model loads: clients that can't retry work from the first second on.

        Raises Unavailable when the load or the engine failed or the program is stopping.
        """
        await self._changed.wait()
        if isinstance(self.state, Ready):
            return self.state.engine
        if isinstance(self.state, Failed):
            happened = "the model has stopped" if self.state.has_been_ready else "the model could not be loaded"
            raise Unavailable(f"{happened}; the program's own output says why")
        raise Unavailable("the program is stopping")

"""uvicorn on a socket that is bound already, ended from outside: signals are the program's business, not its."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from runtime.server.door.connection import Connection

# Longer than clients keep idle connections in their pools, so that none is closed as it is taken up again.
_KEEP_ALIVE_SECONDS = 120


class Listener(uvicorn.Server):
    """`run` serves until `stop`, which doesn't wait for answers that are still being written."""

    def __init__(self, app: Any, *, verbose: bool) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=Connection,
            ws="none",
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            server_header=False,
            proxy_headers=False,  # whoever asks would say by X-Forwarded-For where the connection comes from
            access_log=verbose,
            log_config=uvicorn.config.LOGGING_CONFIG if verbose else None,
            log_level=None if verbose else "error",  # what strangers send is no news for the terminal
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True
        self.force_exit = True

    async def run_on(self, bound: list[socket.socket]) -> None:
        await self.serve(sockets=bound)

"""Room for the bodies of requests: large ones that come at the same time are bounded together.

A body takes several times its size while it is parsed and tokenized, so four that are each allowed would take more than
a laptop has to give. Small bodies always have room.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import BodiesFull

_FREE_BYTES = 256 * 1024  # of each body
_MAX_BYTES = 80 * 1024 * 1024  # more than two of the largest bodies
_RETRY_AFTER_SECONDS = 2


class BodyRoom:
    """An ASGI application around another, whose `receive` raises BodiesFull. Event loop thread only.

    A body has its room until its answer begins. One alone may be as large as its endpoint takes.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = _MAX_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._num_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        num_received = num_held = 0

        async def receive_counted() -> Message:
            nonlocal num_received, num_held
            message = await receive()
            num_received += len(message.get("body", b""))
            grown = max(num_received - _FREE_BYTES, num_held) - num_held
            if grown and self._num_bytes > num_held and self._num_bytes + grown > self._max_bytes:
                raise BodiesFull(_RETRY_AFTER_SECONDS)
            self._num_bytes += grown
            num_held += grown
            return message

        async def send_after_giving_back(message: Message) -> None:
            give_back()
            await send(message)

        def give_back() -> None:
            nonlocal num_held
            self._num_bytes -= num_held
            num_held = 0

        try:
            await self._app(scope, receive_counted, send_after_giving_back)
        finally:
            give_back()

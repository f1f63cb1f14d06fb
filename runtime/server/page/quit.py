"""Quit: ends the program, for people without a terminal."""

from collections.abc import Callable

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from runtime.server.answering.responses import JsonResponse
from runtime.server.page.guard import writing


class Quit:
    """The endpoint; `end_program` is called on the event loop once the answer is out."""

    def __init__(self, end_program: Callable[[], None]) -> None:
        self._end_program = end_program

    @writing
    async def quit(self, _request: Request) -> Response:
        async def end() -> None:
            self._end_program()

        return JsonResponse({"quitting": True}, background=BackgroundTask(end))

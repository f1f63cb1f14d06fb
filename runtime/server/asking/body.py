"""A request's body: bytes in, its fields out, without keeping other requests waiting."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from starlette.requests import Request

from runtime.checked import JsonObject
from runtime.server.asking.parsing import parse_list, parse_object
from runtime.server.asking.threads import SMALL, in_thread
from runtime.server.refusals import BodyTooLarge

P = ParamSpec("P")
T = TypeVar("T")

MAX_BODY_BYTES = 32 * 1024 * 1024
_MAX_LENGTH_DIGITS = 19  # Python refuses to read thousands of digits


class Body(JsonObject):
    """The fields of a request, which had `num_bytes`."""

    def __init__(self, fields: dict[str, Any], num_bytes: int) -> None:
        super().__init__(fields)
        self.num_bytes = num_bytes

    async def read(self, reader: Callable[Concatenate[JsonObject, P], T], *args: P.args, **named: P.kwargs) -> T:
        """Return what `reader` makes of the fields; of many on a thread."""
        if self.num_bytes <= SMALL:
            return reader(self, *args, **named)
        return await in_thread(self.num_bytes, reader, self, *args, **named)


async def read_body(request: Request) -> Body:
    """Read and parse a request's body. Raises BodyTooLarge, or RequestError when it isn't a JSON object."""
    data = await read_bytes(request, MAX_BODY_BYTES)
    num_bytes = len(data)
    return Body(await parsed(parse_object, data), num_bytes)


async def read_list(request: Request) -> list[Any]:
    """The same for a body that is a JSON list."""
    return await parsed(parse_list, await read_bytes(request, MAX_BODY_BYTES))


async def parsed(parse: Callable[[bytearray], T], data: bytearray) -> T:
    """Return what `parse` makes of a body's bytes, and empty those."""

    def parse_and_forget() -> T:
        try:
            return parse(data)
        finally:
            data.clear()

    return parse_and_forget() if len(data) <= SMALL else await in_thread(len(data), parse_and_forget)


async def read_bytes(request: Request, max_bytes: int) -> bytearray:
    """Read a request's body. Raises BodyTooLarge."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > _MAX_LENGTH_DIGITS or int(declared) > max_bytes):
        raise BodyTooLarge(f"the body is larger than {max_bytes} bytes")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise BodyTooLarge(f"the body is larger than {max_bytes} bytes")
    return data

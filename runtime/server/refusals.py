"""What the server itself refuses, as exceptions. The shapes and statuses that clients see are in `answering.errors`."""

from runtime.errors import RequestError


class BodyTooLarge(RequestError):
    """More than an endpoint takes."""


class NotFound(RequestError):
    """The request names something that isn't here."""


class Unauthorized(RequestError):
    """The request brings no key, or none of this server's."""


class Forbidden(RequestError):
    """The request comes from where none is taken."""


class NotOffered(RequestError):
    """The endpoint exists, but this server wasn't started with it or its model can't do it."""


class NoThreads(RequestError):
    """The request wants its conversation kept on the server.

    Anthropic's clients want that in their loops over tools. Refused so, they send the whole conversation again.
    """

    def __init__(self) -> None:
        super().__init__("'thread' is not supported by this server; send the whole conversation without it", "thread")

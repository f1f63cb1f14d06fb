"""Errors to HTTP: the one place where the server catches what was raised deeper down.

A path belongs to a dialect, and so do the errors below it, those of the router and of the door included: a client of
that dialect reads no other shape.

Only the words of errors that a request or the moment caused go out. Our own failures may name paths of this machine,
so clients get general words, and the log that `--verbose` shows gets everything.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from runtime.errors import ChatTooLarge, HistoryError, PromptTooLong, QueueFull, RequestError, Unavailable
from runtime.server.answering.responses import JsonResponse, NoResponse, log_fault
from runtime.server.refusals import BodyTooLarge, Forbidden, NotFound, NoThreads, NotOffered, Unauthorized

Endpoint = Callable[[Request], Awaitable[Response]]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


# Anthropic's words; what isn't here is its invalid_request_error.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    500: "api_error",
    503: "api_error",
    529: "overloaded_error",
}
_OVERLOADED = 529  # Anthropic's status for what is 503 elsewhere


_MAX_MESSAGE = 1000  # characters


# What isn't here is a plain 400.
_STATUSES: dict[type[Exception], int] = {
    BodyTooLarge: 413,
    ChatTooLarge: 413,
    Forbidden: 403,
    NotFound: 404,
    NotOffered: 501,
    Unauthorized: 401,
}


# What OpenAI's clients look for; its other codes say no more than the status.
_OPENAI_CODES: dict[type[Exception], str] = {
    PromptTooLong: "context_length_exceeded",
    Unauthorized: "invalid_api_key",
    QueueFull: "rate_limit_exceeded",
}


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the error object as llama.cpp's dialect has it."""
    if isinstance(error, PromptTooLong):
        facts = {"n_prompt_tokens": error.num_prompt_tokens, "n_ctx": error.n_ctx}
        return 400, {**_error(400, str(error), error.param), "type": "exceed_context_size_error", **facts}
    if isinstance(error, RequestError):
        status = _STATUSES.get(type(error), 400)
        return status, _error(status, str(error), error.param)
    if isinstance(error, (HistoryError, Unavailable)):
        return 503, _error(503, str(error))
    if isinstance(error, HTTPException):
        return error.status_code, _error(error.status_code, error.detail)
    return 500, _error(500, "the server failed to answer this request; its output with --verbose says why")


def _error(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error")
    # It may quote the request, and is to be one line of words all the same, for a terminal, too.
    message = " ".join(message[:_MAX_MESSAGE].splitlines())
    message = "".join(character if character.isprintable() else "\ufffd" for character in message)
    return {"message": message, "type": kind, "code": status, "param": param}


def llamacpp_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error, in the shape of llama.cpp's dialect."""
    status, described = describe(error)
    return status, {"error": described}


def openai_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error, in the shape of OpenAI's dialect, whose codes are words."""
    status, described = describe(error)
    code = next((code for kind, code in _OPENAI_CODES.items() if isinstance(error, kind)), None)
    return status, {"error": {**described, "code": code}}


def ollama_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error, in the shape of Ollama's dialect."""
    status, described = describe(error)
    return status, {"error": described["message"]}


def anthropic_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error, in the shape of Anthropic's dialect."""
    status, described = describe(error)
    if isinstance(error, QueueFull):
        status = _OVERLOADED
    reported: dict[str, Any] = {
        "type": _ANTHROPIC_TYPES.get(status, "invalid_request_error"),
        "message": described["message"],
    }
    if isinstance(error, NoThreads):
        reported["details"] = {"error_code": "thread_unsupported_request"}
    return status, {"type": "error", "error": reported, "request_id": None}


_SHAPES = (("/api", ollama_error), ("/v1/messages", anthropic_error), ("/v1", openai_error))


def error_response(error: Exception, path: str) -> Response:
    """Return an error's answer, in the shape of the dialect that `path` belongs to."""
    below = (shape for prefix, shape in _SHAPES if path == prefix or path.startswith(f"{prefix}/"))
    status, body = next(below, llamacpp_error)(error)
    if status >= 500 and not isinstance(error, (QueueFull, NotOffered)):
        log_fault(error)
    return JsonResponse(body, status_code=status, headers=_headers(error))


def _headers(error: Exception) -> Mapping[str, str] | None:
    if isinstance(error, QueueFull):
        return {"retry-after": str(error.retry_after_seconds)}
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    return error.headers if isinstance(error, HTTPException) else None


async def routing_error(request: Request, error: Exception) -> Response:
    """Answer what the router raises: no such path, or not with this method."""
    return error_response(error, request.scope["path"])


def answering_errors(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with every exception turned into an answer.

    Not an exception handler of Starlette's: the one for `Exception` answers and then raises again, which prints a
    traceback.
    """

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return NoResponse()
        except Exception as error:
            return error_response(error, request.scope["path"])

    return answer

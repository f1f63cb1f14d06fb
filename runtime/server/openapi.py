"""`/openapi.json`: the API described from the route table and the declarations that endpoints read their bodies with.

An endpoint without declarations is listed with a body of any fields.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime import __version__
from runtime.server.answering.errors import Endpoint
from runtime.server.answering.streaming import to_json
from runtime.server.asking.fields import Field, Operation, operation, operation_of

_VARIABLE = re.compile(r"{(\w+)(?::\w+)?}")
_ERRORS = {
    "400": "the request can't be served as it stands; `error.param` names the field",
    "401": "the request brings none of this server's keys",
    "403": "the request comes from a page, or by a name, that isn't let in",
    "503": "there is no model, or too many requests wait",
}


def openapi_endpoint(table: Sequence[tuple[str, str, Endpoint]]) -> Endpoint:
    """Return the endpoint that describes a table, once somebody asks."""

    @cache
    def described() -> bytes:
        return to_json(describe(table)).encode("ascii")

    @operation("This description")
    async def openapi(_request: Request) -> Response:
        return Response(described(), media_type="application/json")

    return openapi


def describe(table: Iterable[tuple[str, str, Endpoint]]) -> dict[str, Any]:
    """Return an OpenAPI 3.1 description of a table of method, path and endpoint."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, endpoint in table:
        found = operation_of(endpoint) or Operation(getattr(endpoint, "__name__", path).replace("_", " "))
        paths.setdefault(_VARIABLE.sub(r"{\1}", path), {})[method.lower()] = _operation(method, path, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "holdall", "version": __version__},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            }
        },
        "security": [{}, {"bearer": []}, {"x-api-key": []}],
    }


def _operation(method: str, path: str, found: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _VARIABLE.findall(path)
    ]
    if method == "GET":
        parameters += [
            {"name": each.name, "in": "query", "schema": each.schema(), "description": each.text}
            for each in found.fields
        ]
    responses = {"200": {"description": "the answer"}}
    responses |= {status: {"description": text} for status, text in _ERRORS.items()}
    described: dict[str, Any] = {"summary": found.summary, "responses": responses}
    if parameters:
        described["parameters"] = parameters
    if method in ("POST", "PUT", "PATCH"):
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": _body(found)}}}
    return described


def _body(found: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {each.name: _property(each) for each in found.fields}}
    return {**schema, "required": list(found.required)} if found.required else schema


def _property(declared: Field) -> dict[str, Any]:
    return {**declared.schema(), "description": declared.text}

"""Faults as problem documents (RFC 9457), and as errors in OpenAI's shape under `/v1`."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from mongars.errors import (
    URN,
    Fault,
    FieldFault,
    Forbidden,
    Invalid,
    Malformed,
    Missing,
    NoMethod,
    Unproven,
    meaning,
)
from mongars.telemetry import LEVELS

log = structlog.get_logger()

_ERROR_CODE = re.compile(r"\A[a-z_]{1,60}\Z")
"""An error code of OAuth 2; a provider may send anything in its place, and the browser with it."""


OPENAI_PREFIX = "/v1"


class WrongField(BaseModel):
    """A field that is not as it must be."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """What went wrong (RFC 9457). Some problems carry more fields; `docs/problems.md` lists all."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="allow")

    type: Annotated[str, Field(pattern=f"^{URN}[a-z0-9-]+$")]
    """Never changes; the words may."""
    title: str
    status: int
    detail: str
    request_id: str | None
    errors: list[WrongField]


class ErrorTold(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """What went wrong, in OpenAI's shape."""

    error: ErrorTold


def answers(prefix: str) -> dict[int | str, dict[str, Any]]:
    """How every route of a router may refuse, for the description of the API."""
    kind, name = "application/problem+json", Problem.__name__
    if prefix == OPENAI_PREFIX:
        kind, name = "application/json", OpenAIError.__name__
    content = {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {
        "4XX": {"description": "Refused", "content": content},
        "5XX": {"description": "Not possible right now", "content": content},
    }


def schemas() -> dict[str, Any]:
    """The schemas that `answers` names."""
    _, made = models_json_schema(
        [(Problem, "serialization"), (OpenAIError, "serialization")],
        ref_template="#/components/schemas/{model}",
    )
    defined: dict[str, Any] = made["$defs"]
    return defined


def problem(fault: Fault, request_id: str | None = None) -> dict[str, Any]:
    """The problem document of a fault."""
    return {
        "type": f"{URN}{fault.problem}",
        "title": fault.title,
        "status": meaning(fault).status,
        "detail": fault.detail,
        "request_id": request_id,
        "errors": [{"loc": list(field.loc), "msg": field.msg} for field in fault.errors],
        **fault.extra,
    }


def _headers(fault: Fault) -> dict[str, str]:
    headers: dict[str, str] = {}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(fault.retry_after_s)))
    if isinstance(fault, Unproven):
        error = fault.extra.get("error")
        known = isinstance(error, str) and _ERROR_CODE.match(error)
        headers["WWW-Authenticate"] = f'Bearer error="{error}"' if known else "Bearer"
    return headers


def answer(fault: Fault, request: Request) -> Response:
    """The HTTP answer to a fault, in the shape that this path's clients read."""
    request_id = request.scope.get("state", {}).get("request_id")
    told = meaning(fault)
    log.log(
        LEVELS[told.level],
        "api.refused",
        problem=fault.problem,
        status=told.status,
        path=request.url.path,
    )
    if request.url.path.startswith("/v1/"):
        # Under /v1 every body that is refused for what it says is 400.
        status = 400 if isinstance(fault, Invalid) and told.status == 422 else told.status
        return Response(
            orjson.dumps(openai_error(fault, status)),
            status,
            {**_headers(fault), "content-type": "application/json"},
        )
    return Response(
        orjson.dumps(problem(fault, request_id)),
        told.status,
        {**_headers(fault), "content-type": "application/problem+json"},
    )


_OPENAI_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def openai_error(fault: Fault, status: int) -> dict[str, Any]:
    """A fault as OpenAI's clients expect it."""
    where = fault.errors[0] if fault.errors else None
    detail = fault.detail if where is None else f"{fault.detail} {_path(where)}: {where.msg}"
    parts = [str(part) for part in where.loc if part != "body"] if where else []
    return {
        "error": {
            "message": detail,
            "type": _OPENAI_TYPES.get(status, "server_error"),
            "param": ".".join(parts) or None,
            "code": fault.problem.replace("-", "_"),
        }
    }


def _path(field: FieldFault) -> str:
    return ".".join(str(part) for part in field.loc)


def invalid(error: RequestValidationError) -> Invalid:
    """The wrong shape, field by field; never with what was sent."""
    fields = [
        FieldFault(tuple(one["loc"]), str(one["msg"]).removeprefix("Value error, "))
        for one in error.errors()[:20]
    ]
    return Invalid("Some fields are not as they must be.", errors=fields)


def from_http(error: HTTPException) -> Fault:
    """What the framework itself refuses, in our terms."""
    if isinstance(error.__cause__, Fault):  # raised while the framework was reading the body
        return error.__cause__
    match error.status_code:
        case 400:
            return Malformed("The body of this request cannot be read.", slug="malformed")
        case 401:
            return Unproven("Please sign in.")
        case 403:
            return Forbidden("This is not allowed.")
        case 404:
            return Missing("There is nothing at this address.", slug="no-such-address")
        case 405:
            return NoMethod("This address does not take this method.")
        case _:
            return Invalid(str(error.detail))


def install(app: FastAPI) -> None:
    """Every way a request can fail ends in a problem document."""

    @app.exception_handler(Fault)
    async def on_fault(request: Request, error: Fault) -> Response:
        return answer(error, request)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(invalid(error), request)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        response = answer(from_http(error), request)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientDisconnect)
    async def on_leaving(request: Request, error: ClientDisconnect) -> Response:
        return answer(Malformed("The body ended before it was whole.", slug="malformed"), request)

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> Response:
        log.exception("api.bug", path=request.url.path)
        return answer(
            Fault("Something went wrong inside; the server's log says more.", slug="internal"),
            request,
        )

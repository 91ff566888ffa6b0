"""Conversion of errors to RFC 9457 responses (`application/problem+json`)."""

import asyncio
from collections.abc import Mapping
from difflib import get_close_matches
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import get_contextvars

from infrawatch.errors import (
    InfraWatchError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    ShuttingDown,
    TooLarge,
    TooManyWrongKeys,
    Unauthenticated,
    reworded,
)

RETRY_AFTER_S = 2
"""Long enough for a restart of PostgreSQL, short enough that a spool stays small."""

MEDIA_TYPE = "application/problem+json"

CHALLENGE = 'Bearer realm="InfraWatch"'
"""RFC 6750. Basic is accepted but not offered: browsers would prompt for a user and password."""

_OF_CONNECTIONS = {
    "400": "The request is not HTTP.",
    "414": "The URL is longer than INFRAWATCH_MAX_URL_BYTES.",
    "431": "The headers are larger than INFRAWATCH_MAX_HEADER_BYTES.",
    "503": "Try again after `Retry-After` seconds.",
}
"""Responses sent before a request reaches any route."""

_CODES = {"repeated_parameter", "unknown_parameter"}
"""Codes of errors that InfraWatch detects; all errors detected by Pydantic share one code."""

_FASTAPIS_OWN = {"$ref": "#/components/schemas/HTTPValidationError"}

_SHOWN_CHARACTERS = 200

log = structlog.get_logger()


class Problem(BaseModel):
    """An error, as defined by RFC 9457."""

    type: Annotated[str, Field(examples=["urn:infrawatch:too_old"])]
    title: str
    status: int
    code: Annotated[str, Field(description="Stable, for programs.")]
    detail: Annotated[str, Field(description="What is wrong and what to do, for people.")]
    request_id: Annotated[
        str, Field(description="`X-Request-Id`, and what the log has of it, if it could be read.")
    ] = ""


class ParameterRefusal(BaseModel):
    """An invalid parameter."""

    parameter: str
    code: str
    detail: str


class ParameterProblem(Problem):
    """One or more parameters are invalid; `errors` lists them."""

    errors: list[ParameterRefusal]


def to_members(error: InfraWatchError) -> dict[str, object]:
    """Return the standard members of a problem."""
    return _members(error.status, error.code, str(error))


def to_response(error: InfraWatchError, more: Mapping[str, object] | None = None) -> Response:
    """Convert an error to a problem response; `more` holds additional members."""
    response = _problem(error.status, error.code, str(error), more)
    response.headers.update(headers_of(error))
    return response


def headers_of(error: InfraWatchError) -> dict[str, str]:
    """Return the headers of any response to an error: when to retry, how to authenticate."""
    if isinstance(error, (TooManyWrongKeys, LimitExceeded)):
        return {"Retry-After": str(ceil(error.retry_after.total_seconds()))}
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": CHALLENGE}
    return {"Retry-After": str(RETRY_AFTER_S)} if error.retryable else {}


class AnswerWhenCutShort:
    """Answers with a 503 problem when a shutdown cancels a request, so that clients retry.

    uvicorn would answer such requests with 500, on which senders drop their data.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = scope["type"] != "http"

        async def noting_start(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_start)
        except asyncio.CancelledError:
            if has_started:
                raise
            error = ShuttingDown("the server is shutting down; send to another, or again shortly")
            await to_response(error)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Make an app answer every error with a problem."""
    app.add_middleware(AnswerWhenCutShort)
    app.add_exception_handler(InfraWatchError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(Exception, _unexpected)


def describe(document: dict[str, Any], *, is_loopback_only: bool) -> None:
    """Add the responses that FastAPI cannot infer to an OpenAPI document."""
    schemas = document["components"]["schemas"]
    for model in (Problem, ParameterProblem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= {**schema.pop("$defs", {}), model.__name__: schema}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _describe_operation(operation, is_named="{" in path)
            if is_loopback_only:
                operation["responses"]["403"] = problem_response(
                    "Authentication is off, and this came from elsewhere."
                )


def _describe_operation(operation: dict[str, Any], *, is_named: bool) -> None:
    answers = operation["responses"]
    inferred = answers.get("422", {}).get("content", {}).get("application/json", {})
    if inferred.get("schema") == _FASTAPIS_OWN:
        answers["422"] = problem_response("A parameter does not fit.", ParameterProblem)
    if is_named:
        answers.setdefault("404", problem_response("Nothing can be called that."))
    if "requestBody" in operation:
        answers.setdefault("413", problem_response("The body is too large."))
    for status, description in _OF_CONNECTIONS.items():
        answer = problem_response(description)
        described = answers.setdefault(status, answer)
        described.setdefault("content", {}).setdefault(MEDIA_TYPE, answer["content"][MEDIA_TYPE])


def problem_response(description: str, *models: type[Problem]) -> dict[str, Any]:
    """Return an OpenAPI response whose body is a problem: one of `models`, or any problem."""
    references = [
        {"$ref": f"#/components/schemas/{model.__name__}"} for model in models or (Problem,)
    ]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def to_invalid_input(error: RequestValidationError) -> InvalidInput:
    """Join FastAPI's validation errors into one, for protocols whose errors are a single text."""
    return InvalidInput(
        "; ".join(f"{found['loc'][-1]}: {reworded(found['msg'])}" for found in error.errors())
    )


async def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, InfraWatchError)
    return to_response(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    """Answer a request with invalid query parameters, without echoing the submitted values."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {
            "parameter": str(found["loc"][-1]),
            "code": found["type"] if found["type"] in _CODES else "invalid_parameter",
            "detail": reworded(found["msg"]),
        }
        for found in error.errors()[:100]
    ]
    first = "; ".join(f"{flaw['parameter']}: {flaw['detail']}" for flaw in errors[:3])
    return to_response(InvalidInput(f"a parameter does not fit: {first}"), {"errors": errors})


async def _routing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        path = request.url.path[:_SHOWN_CHARACTERS]
        return to_response(NotFound(f"nothing is at {path}; {_find_path(request)}"))
    if error.status_code == TooLarge.status:
        return to_response(TooLarge(str(error.detail)))
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and "Allow" in headers:
        headers["Allow"] = _find_methods(request) or headers["Allow"]
        path = request.url.path[:_SHOWN_CHARACTERS]
        detail = f"{request.method} is not for {path}: use {headers['Allow']}"
    response = _problem(error.status_code, code, detail)
    response.headers.update(headers)
    return response


def _find_path(request: Request) -> str:
    """Return what may have been meant by a path that there is not."""
    path = request.url.path
    if path.endswith("/"):
        return "paths have no / at their end"
    known = {str(route.path) for route in iter_route_contexts(request.app.routes)}
    near = get_close_matches(path[:_SHOWN_CHARACTERS], known, n=1, cutoff=0.8)
    return f"did you mean {near[0]}?" if near else "see /docs"


def _find_methods(request: Request) -> str:
    """Return the methods of all routes of a path; the first matching route lists only its own."""
    found = [
        route.methods or ()
        for route in iter_route_contexts(request.app.routes)
        if route.matches(request.scope)[0] is Match.PARTIAL
    ]
    every = {method for methods in found for method in methods}
    return ", ".join(sorted(every | ({"HEAD"} if "GET" in every else set())))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    response = _problem(500, "internal", "an internal error; the log has it, under this request_id")
    response.headers["X-Request-Id"] = _request_id()  # this runs outside `RequestIds`
    return response


def _problem(
    status: int, code: str, detail: str, more: Mapping[str, object] | None = None
) -> Response:
    return JSONResponse(
        _members(status, code, detail) | {"request_id": _request_id()} | dict(more or {}),
        status_code=status,
        media_type=MEDIA_TYPE,
    )


def _request_id() -> str:
    return str(get_contextvars().get("request_id", ""))


def _members(status: int, code: str, detail: str) -> dict[str, object]:
    return {
        "type": f"urn:infrawatch:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }

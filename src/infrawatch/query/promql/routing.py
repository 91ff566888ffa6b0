"""The route class of the Prometheus endpoints: errors in Prometheus' format."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.types import Message
from typing_extensions import override

from infrawatch.access.needs import READ
from infrawatch.access.requests.small_bodies import SmallBodyRoute
from infrawatch.errors import (
    CannotEvaluate,
    DeadlineExceeded,
    InfraWatchError,
    InvalidInput,
    QueryTooBroad,
)
from infrawatch.problems import headers_of, to_invalid_input
from infrawatch.query.promql.schemas import QueryRefusal

_REFUSAL = {"application/json": {"schema": {"$ref": "#/components/schemas/QueryRefusal"}}}
"""A reference: a model for each status of each route would add 50 ms to every start."""

_FORM = "application/x-www-form-urlencoded"

_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": QueryRefusal, "description": "The query is invalid; the message says why."},
    401: {"content": _REFUSAL, "description": "The key is missing or invalid."},
    403: {"content": _REFUSAL, "description": "The key lacks the scope `read`."},
    422: {"content": _REFUSAL, "description": "The query cannot be evaluated, or is too broad."},
    429: {"content": _REFUSAL, "description": "Too many requests, or too many wrong keys."},
    503: {"content": _REFUSAL, "description": "Try again after `Retry-After` seconds."},
}


class PrometheusRoute(SmallBodyRoute):
    """Answers errors in Prometheus' format instead of as problems."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer_errors_as_prometheus(request: Request) -> Response:
            try:
                return await handle(_as_one_form(request))
            except InfraWatchError as error:
                return _refused(error)
            except RequestValidationError as error:
                return _refused(to_invalid_input(error))

        return answer_errors_as_prometheus


def prometheus_router() -> APIRouter:
    """Create a router for endpoints of Prometheus that read."""
    return APIRouter(
        prefix="/api/v1",
        tags=["prometheus"],
        route_class=PrometheusRoute,
        responses=_RESPONSES,
        dependencies=[READ],
    )


def _as_one_form(request: Request) -> Request:
    """Merge the URL's parameters into the form, which wins, like Go's `Request.FormValue`."""
    query: bytes = request.scope["query_string"]
    kind = request.headers.get("content-type", _FORM)
    if request.method != "POST" or not query or not kind.lower().startswith(_FORM):
        return request
    pending = [query + b"&"]  # FastAPI takes the later of two values for one name

    async def receive() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": True}
        return await request.receive()

    headers = [*request.scope["headers"], (b"content-type", _FORM.encode())]
    return Request({**request.scope, "headers": headers}, receive)


def _refused(error: InfraWatchError) -> Response:
    kind, status = error.code, error.status
    if isinstance(error, (QueryTooBroad, CannotEvaluate)):
        kind = "execution"
    elif isinstance(error, DeadlineExceeded):
        kind = "timeout"
    elif isinstance(error, InvalidInput):
        kind, status = "bad_data", 400
    refusal = QueryRefusal(errorType=kind, error=str(error))
    return JSONResponse(refusal.model_dump(), status_code=status, headers=headers_of(error))

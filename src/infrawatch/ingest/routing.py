"""Shared by the routes of all protocols: the intake, a fast path and protocol-specific errors."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import lru_cache
from inspect import signature
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from infrawatch.access.needs import Needs
from infrawatch.access.parameters import refuse_undeclared
from infrawatch.errors import InfraWatchError
from infrawatch.ingest.intake import Intake
from infrawatch.problems import to_invalid_input, to_response

Handle = Callable[[Request], Coroutine[Any, Any, Response]]
ToErrorResponse = Callable[[Request, InfraWatchError], Response]
Arguments = Mapping[str, Any]
"""An endpoint's arguments from the query string, in addition to the request and the principal."""

_QUERIES = 64
"""Distinct query strings cached per route; nearly all senders repeat theirs."""


def intake_of(request: Request) -> Intake:
    """Return this process's intake; a FastAPI dependency would cost 25 µs per request."""
    intake: Intake = request.scope["state"]["intake"]
    return intake


class IngestRoute(APIRoute):
    """A route that is called thousands of times a second, mostly through `FastPath`.

    For an endpoint that takes only the request, the principal and optional query parameters,
    FastAPI only parses the query string, once per distinct one (docs/decisions/0011).
    """

    is_foreign: ClassVar[bool] = False
    """Whether undeclared query parameters are allowed, as foreign protocols send them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        fields = self.dependant.query_params
        self._names = {field.alias for field in fields}
        self._needs = _find_needs(self)

        @lru_cache(_QUERIES)
        def read(pairs: tuple[tuple[str, str], ...]) -> Arguments | None:
            found, errors = request_params_to_args(fields, QueryParams(list(pairs)))
            return None if errors else found

        self._read = read

    def find_arguments(self, query: bytes) -> Arguments | None:
        """Parse a query string into arguments; None if FastAPI has to handle or reject it."""
        if self._needs is None:
            return None
        if not query:
            return {}
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        declared = tuple(pair for pair in pairs if pair[0] in self._names)
        if not self.is_foreign and len(pairs) > len(dict(declared)):
            return None
        return self._read(declared)

    async def answer(self, request: Request, arguments: Arguments) -> Response:
        """Call the endpoint."""
        assert self._needs is not None
        try:
            principal = await self._needs(request)
            response: Response = await self.endpoint(request, principal, **arguments)
        except InfraWatchError as error:
            return self.to_error_response(request, error)
        return response

    def to_error_response(self, _request: Request, error: InfraWatchError) -> Response:
        """Convert an error to a response."""
        return to_response(error)


def foreign_route(to_error_response: ToErrorResponse) -> type[APIRoute]:
    """Create a route class for a foreign protocol, with its own error format, not problems."""

    class Route(IngestRoute):
        is_foreign = True

        @override
        def to_error_response(self, request: Request, error: InfraWatchError) -> Response:
            return to_error_response(request, error)

        @override
        def get_route_handler(self) -> Handle:
            handle = super().get_route_handler()

            async def answer_errors(request: Request) -> Response:
                try:
                    return await handle(request)
                except InfraWatchError as error:
                    return to_error_response(request, error)
                except RequestValidationError as error:
                    return to_error_response(request, to_invalid_input(error))

            return answer_errors

    return Route


class FastPath:
    """Dispatches requests to the ingest routes by their path alone.

    FastAPI would try each router in turn, and open three exit stacks for dependencies that these
    routes do not have; that took a seventh of the time of a remote write scrape without its commit.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = {
            route.path: route
            for route in routes
            if isinstance(route, IngestRoute) and route.methods == {"POST"}
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._find_route(scope)
        arguments = None if route is None else route.find_arguments(scope["query_string"])
        if route is None or arguments is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # requests are counted by route
        response = await route.answer(Request(scope, receive, send), arguments)
        await response(scope, receive, send)

    def _find_route(self, scope: Scope) -> IngestRoute | None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        return self._routes.get(scope["path"]) if is_post else None


def _find_needs(route: APIRoute) -> Needs | None:
    """The `Needs` of `endpoint(request, principal, …)`; None for endpoints of any other form."""
    inputs = route.dependant
    elsewhere = (inputs.path_params, inputs.header_params, inputs.cookie_params, inputs.body_params)
    if any(elsewhere) or list(signature(route.endpoint).parameters)[:2] != ["request", "principal"]:
        return None
    is_optional = all(not field.field_info.is_required() for field in inputs.query_params)
    # `find_arguments` itself leaves undeclared parameters to FastAPI.
    calls = [
        dependency.call
        for dependency in inputs.dependencies
        if dependency.call is not refuse_undeclared
    ]
    return calls[0] if is_optional and len(calls) == 1 and isinstance(calls[0], Needs) else None

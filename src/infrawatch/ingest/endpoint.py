"""What the routes of all protocols share: the intake, and errors in each sender's own words."""

from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from typing_extensions import override

from infrawatch.access.needs import Needs
from infrawatch.errors import InfraWatchError, InvalidInput
from infrawatch.ingest.intake import Intake

Handle = Callable[[Request], Coroutine[Any, Any, Response]]
ToAnswer = Callable[[Request, InfraWatchError], Response]


def intake_of(request: Request) -> Intake:
    """The intake of this process. No dependency: FastAPI takes 25 µs a request to ask for one."""
    intake: Intake = request.state.intake
    return intake


class IngestRoute(APIRoute):
    """A route that is asked thousands of times a second, mostly without a query.

    Then there is nothing that FastAPI would have to read or check: of an endpoint that takes but
    the request, who sent it, and what a query may say, it is asked directly. FastAPI takes as long
    to find that out as snappy takes for a thousand samples (docs/decisions/0011).
    """

    @override
    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()
        needs = _find_needs(self)
        if needs is None:
            return handle

        async def handle_without_query(request: Request) -> Response:
            if request.scope["query_string"]:
                return await handle(request)
            response: Response = await self.endpoint(request, await needs(request))
            return response

        return handle_without_query


def answering_with(to_answer: ToAnswer) -> type[APIRoute]:
    """Routes whose errors are answered in a protocol's own shape instead of as problems."""

    class Route(IngestRoute):
        @override
        def get_route_handler(self) -> Handle:
            handle = super().get_route_handler()

            async def handle_in_own_words(request: Request) -> Response:
                try:
                    return await handle(request)
                except InfraWatchError as error:
                    return to_answer(request, error)
                except RequestValidationError as error:
                    reasons = (f"{found['loc'][-1]}: {found['msg']}" for found in error.errors())
                    return to_answer(request, InvalidInput("; ".join(reasons)))

            return handle_in_own_words

    return Route


def _find_needs(route: APIRoute) -> Needs | None:
    """What `endpoint(request, principal)` needs; None if the endpoint takes anything else."""
    told = route.dependant
    elsewhere = (told.path_params, told.header_params, told.cookie_params, told.body_params)
    if any(elsewhere) or list(signature(route.endpoint).parameters)[:2] != ["request", "principal"]:
        return None
    is_optional = all(not one.field_info.is_required() for one in told.query_params)
    calls = [one.call for one in told.dependencies]
    return calls[0] if is_optional and len(calls) == 1 and isinstance(calls[0], Needs) else None

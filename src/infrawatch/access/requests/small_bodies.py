"""Routes for small bodies: a larger one is refused before it is read completely."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive
from typing_extensions import override

MAX_BODY_BYTES = 16 * 1024

_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes; nothing that is meant here is"


class SmallBodyRoute(APIRoute):
    """A route that answers a body of more than MAX_BODY_BYTES with a 413 problem.

    The `max_body_size` of FastAPI would answer in plain text.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_little(request: Request) -> Response:
            return await handle(Request(request.scope, _bounded(request.receive)))

        return handle_little


def _bounded(receive: Receive) -> Receive:
    total = 0

    async def receive_little() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE)  # FastAPI makes 400 of any other error here
        return message

    return receive_little

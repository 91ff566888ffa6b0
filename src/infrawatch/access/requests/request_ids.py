"""Request ids, from the client or generated; logs, problems and responses include them."""

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

HEADER = b"x-request-id"

_FITS = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
"""Characters of the usual id formats, none of which can break a log line."""

_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


class RequestIds:
    """Takes a valid `X-Request-Id` or generates one, and returns it in the response.

    The id is bound for structlog in the context of the request's own task.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = _find_id(scope) or secrets.token_hex(8).encode("ascii")
        bind_contextvars(request_id=request_id.decode("ascii"))

        async def telling(message: Message) -> None:
            if message["type"] in _STARTS:
                # A new list: the original may belong to a response that is sent again.
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            await send(message)

        await self._app(scope, receive, telling)


def _find_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == HEADER:
            found: bytes = value
            return found if _FITS.fullmatch(found) else None
    return None

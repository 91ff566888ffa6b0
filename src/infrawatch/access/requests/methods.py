"""HEAD: answered like GET, without the body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadIsGet:
    """Routes HEAD like GET (RFC 9110, 9.3.2), up to where the body begins.

    FastAPI's routes do not support HEAD, but uptime checks and `curl -I` send it. Once a response
    is complete, uvicorn reports a disconnect, which ends live views.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return

        is_complete = False

        async def without_body(message: Message) -> None:
            nonlocal is_complete
            if message["type"] != "http.response.body":
                await send(message)
            elif not is_complete:
                is_complete = True
                await send({"type": "http.response.body"})

        await self._app({**scope, "method": "GET"}, receive, without_body)

"""HEAD: answered like GET, without the body."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadIsGet:
    """Routes HEAD like GET (RFC 9110, 9.3.2); uvicorn omits the body of the response.

    FastAPI's routes do not support HEAD, but uptime checks and `curl -I` send it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

"""HEAD: whatever can be had with GET is answered, without its body."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadIsGet:
    """Leads HEAD where GET goes (RFC 9110, 9.3.2); uvicorn sends no body in answer to HEAD.

    FastAPI's routes do not know it, but uptime checks and `curl -I` send it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

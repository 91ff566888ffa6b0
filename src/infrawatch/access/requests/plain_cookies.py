"""Cookies without backslashes: Python unquotes them in quadratic time (CVE-2024-7592)."""

from starlette.types import ASGIApp, Receive, Scope, Send


class PlainCookies:
    """Removes backslashes from the header Cookie: ours have none, and nobody reads others.

    FastAPI parses all cookies for every route, with `http.cookies`. Before Python 3.11.10 and
    3.12.6, 60 KB of them took half a minute, in which this process did nothing else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope.get("headers", ())
        if any(name == b"cookie" and b"\\" in value for name, value in headers):
            plain = [
                (name, value.replace(b"\\", b"") if name == b"cookie" else value)
                for name, value in headers
            ]
            scope = {**scope, "headers": plain}
        await self._app(scope, receive, send)

"""Browser security: response headers, CORS, and which pages may open a WebSocket."""

from collections.abc import Collection, Sequence

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infrawatch.access.requests.loopback import LoopbackOnly
from infrawatch.access.requests.origins import find_public_url, parse_origin
from infrawatch.access.requests.refusals import Refusals
from infrawatch.errors import Forbidden
from infrawatch.problems import to_response
from infrawatch.telemetry import Telemetry

SECURITY_HEADERS = (
    # A response is data: whatever it contains, it must load nothing and must not be framed.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Added to every response that does not set them; the pages have their own policies."""

_HSTS = (b"strict-transport-security", b"max-age=31536000")
"""Sent over TLS only: browsers ignore it elsewhere, and servers without TLS must not send it."""

_NO_STORE = (b"cache-control", b"no-store")
_SAYS_HOW_TO_STORE = {b"cache-control", b"etag"}
_STARTS = {"http.response.start", "websocket.http.response.start"}


# Response headers that pages of other origins may read, if they may read the response.
_EXPOSED_HEADERS = ("Retry-After", "RateLimit", "RateLimit-Policy")


def install(
    app: Starlette, telemetry: Telemetry, origins: Sequence[str], *, is_loopback_only: bool
) -> None:
    """Restrict the pages from which browsers may send requests."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    if is_loopback_only:
        app.add_middleware(LoopbackOnly, telemetry=telemetry)
    else:
        app.add_middleware(KnownPages, telemetry=telemetry, origins=origins)


class SecurityHeaders:
    """Adds missing security headers to every response.

    Responses without caching headers are private data, which browsers must not store.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        is_private = scope["scheme"] in ("https", "wss")
        added = [*SECURITY_HEADERS, _HSTS] if is_private else SECURITY_HEADERS

        async def adding_headers(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                headers += [header for header in added if header[0] not in there]
                if not there & _SAYS_HOW_TO_STORE:
                    headers.append(_NO_STORE)
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, adding_headers)


class KnownPages:
    """Refuses WebSockets opened by pages of other sites (cross-site WebSocket hijacking).

    Browsers let every page connect to any server, with that server's cookies, and send the page's
    origin in `Origin`. It has to match the request's Host, INFRAWATCH_PUBLIC_URL or
    INFRAWATCH_CORS_ORIGINS. Clients other than browsers send no Origin.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, origins: Collection[str]) -> None:
        self._app = app
        self._refusals = Refusals(telemetry)
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._is_known(HTTPConnection(scope)):
            error = Forbidden(
                "a page from elsewhere may not open a WebSocket here; INFRAWATCH_CORS_ORIGINS "
                "names those that may"
            )
            self._refusals.note(HTTPConnection(scope), "foreign_page")
            await to_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_known(self, connection: HTTPConnection) -> bool:
        origin = connection.headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        if origin == find_public_url(connection):
            return True
        _, host = parse_origin(origin)
        return host == connection.headers.get("host", "").lower() != ""

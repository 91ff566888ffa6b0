"""What browsers may do: the headers that tell them, and which pages may open a WebSocket."""

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infrawatch.access.loopback import LoopbackOnly
from infrawatch.access.refusals import Refusals
from infrawatch.errors import Forbidden
from infrawatch.problems import to_response
from infrawatch.telemetry import Telemetry

SECURITY_HEADERS = (
    # An answer is data: whatever is in it, it loads nothing and is shown in nobody's frame.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every answer, unless it brings its own: the pages have policies of their own."""

_HSTS = (b"strict-transport-security", b"max-age=31536000")
"""Only behind TLS: browsers ignore it elsewhere, and whoever has no TLS must not promise any."""

_NO_STORE = (b"cache-control", b"no-store")
_SAYS_HOW_TO_STORE = {b"cache-control", b"etag"}
_STARTS = {"http.response.start", "websocket.http.response.start"}


# What a page from elsewhere may see of an answer, once it may see the answer.
_EXPOSED_HEADERS = ("Retry-After", "RateLimit", "RateLimit-Policy")


def install(
    app: Starlette, telemetry: Telemetry, origins: Sequence[str], *, is_loopback_only: bool
) -> None:
    """Decide which pages browsers may let talk to us; programs are not concerned."""
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
    """Adds to every answer the headers it does not bring.

    Answers that say nothing of caching are somebody's data, which no browser keeps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        is_private = scope["scheme"] in ("https", "wss")
        wanted = [*SECURITY_HEADERS, _HSTS] if is_private else SECURITY_HEADERS

        async def adding_headers(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                headers += [one for one in wanted if one[0] not in there]
                if not there & _SAYS_HOW_TO_STORE:
                    headers.append(_NO_STORE)
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, adding_headers)


class KnownPages:
    """Refuses WebSockets that a page from elsewhere opens (cross-site WebSocket hijacking).

    Browsers let every page connect to everywhere, with the cookies of where it connects to, and
    say whose page it is in `Origin`. Ours has the name we were asked by; others are those in
    INFRAWATCH_CORS_ORIGINS. Programs send no Origin.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, origins: Collection[str]) -> None:
        self._app = app
        self._refusals = Refusals(telemetry)
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._is_known(Headers(scope=scope)):
            error = Forbidden(
                "a page from elsewhere may not open a WebSocket here; INFRAWATCH_CORS_ORIGINS "
                "names those that may"
            )
            self._refusals.note(HTTPConnection(scope), "foreign_page")
            await to_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""

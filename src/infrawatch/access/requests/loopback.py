"""While authentication is off, only this machine has access: no proxies, no foreign pages."""

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from infrawatch.access.requests.headers import find_header
from infrawatch.access.requests.refusals import Refusals
from infrawatch.errors import Forbidden
from infrawatch.problems import to_response
from infrawatch.telemetry import Telemetry

_HOW_TO_OPEN = (
    "authentication is off, so only this machine may ask; INFRAWATCH_AUTH says how to change that"
)


class LoopbackOnly:
    """Refuses requests that did not come directly from this machine.

    Browsers send the requests of any page to 127.0.0.1; the headers Host (DNS rebinding) and Origin
    (cross-site requests) reveal foreign pages. A proxy's headers reveal a forwarded request.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._refusals = Refusals(telemetry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = _foreign(scope) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self._app(scope, receive, send)
            return
        self._refusals.note(HTTPConnection(scope), "from_elsewhere")
        response = to_response(Forbidden(f"{reason}: {_HOW_TO_OPEN}"))
        await response(scope, receive, send)


def _foreign(scope: Scope) -> str | None:
    if not _is_loopback("//" + find_header(scope, b"host", "")):
        return "the Host header is not a loopback name"
    for name, _ in scope["headers"]:
        if name == b"forwarded" or name.startswith(b"x-forwarded-"):
            return "the request came through a proxy"
    origin = find_header(scope, b"origin", None)
    if origin is not None and not _is_loopback(origin):
        return "the Origin header is not a loopback name"
    return None


@lru_cache(maxsize=256)  # nearly all requests have the same Host
def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False

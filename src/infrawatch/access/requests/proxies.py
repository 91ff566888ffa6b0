"""The client's address behind a reverse proxy."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, cast

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from infrawatch.access.requests.browsers import SecurityHeaders
from infrawatch.access.requests.origins import PUBLIC_URL
from infrawatch.access.requests.plain_cookies import PlainCookies
from infrawatch.access.requests.sites import find_address

log = structlog.get_logger()

_PEER = "infrawatch.peer"
"""The key, in a request's scope, of the address that opened the connection."""


class ProxiedApp(FastAPI):
    """FastAPI, with middleware around even its responses to unexpected errors."""

    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
    public_url: str | None = None
    _around: ProxyHeadersMiddleware | None = None

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._around is None:
            # The client's address and the scheme come first: all other middleware relies on them.
            app = SecurityHeaders(PlainCookies(super().__call__))
            inner = cast(Any, _FromAnAddress(app))
            trusted = [str(network) for network in self.trusted_proxies]
            self._around = ProxyHeadersMiddleware(inner, trusted)
        scope[_PEER] = scope.get("client")
        scope[PUBLIC_URL] = self.public_url
        await self._around(cast(Any, scope), cast(Any, receive), cast(Any, send))


class _FromAnAddress:
    """Attributes a request to the proxy itself if the client it forwards is not an address.

    Otherwise a client that makes one up would count as a new one every time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._told: set[str] = set()  # trusted proxies only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client, peer = scope.get("client"), scope[_PEER]
        if client and peer and client is not peer and find_address(client[0]) is None:
            scope["client"] = peer
            self._tell(peer[0])
        await self._app(scope, receive, send)

    def _tell(self, proxy: str) -> None:
        if proxy not in self._told:
            self._told.add(proxy)
            log.warning("forwarded_for_no_address", proxy=proxy, counted_as="the proxy")

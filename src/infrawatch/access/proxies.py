"""Who is asking when a reverse proxy stands between."""

from collections.abc import Sequence
from typing import Any, cast

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from typing_extensions import override
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from infrawatch.access.browsers import SecurityHeaders


class ProxiedApp(FastAPI):
    """FastAPI, with something around even its answers to errors that nobody expected."""

    trusted_proxies: Sequence[str] = ()
    _around: ProxyHeadersMiddleware | None = None

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._around is None:
            # Who is asking, and whether by TLS, comes first: it is what all the others go by.
            inner = cast(Any, SecurityHeaders(super().__call__))
            self._around = ProxyHeadersMiddleware(inner, list(self.trusted_proxies))
        await self._around(cast(Any, scope), cast(Any, receive), cast(Any, send))

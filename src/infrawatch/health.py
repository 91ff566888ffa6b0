"""Health of this process: /livez, /readyz, /metrics, and counting of requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from time import monotonic
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infrawatch.access.needs import MaySeeMetrics
from infrawatch.errors import InfraWatchError
from infrawatch.telemetry import Telemetry

router = APIRouter(tags=["health"])

log = structlog.get_logger()

CHECK_DEADLINE_S = 3.0
"""Shorter than the timeouts of common probes (our Kubernetes manifests set 5 s)."""

REFRESH_S = 1.0
"""Maximum age of this worker's gauges in the /metrics of another worker."""

_LABELS = 1_024
"""Sets of labels whose metrics are remembered: looking one up takes longer than counting."""

Check = Callable[[], Awaitable[None]]
"""Returns if the check passes; otherwise raises an InfraWatchError with the reason."""


class Health:
    """The checks behind /readyz and the metrics behind /metrics; app.py provides both."""

    def __init__(
        self,
        telemetry: Telemetry,
        checks: Mapping[str, Check],
        refresh: Callable[[], None],
        details: Callable[[], Mapping[str, str]],
    ) -> None:
        self.telemetry = telemetry
        self._refresh = refresh
        self.details = details
        self._checks = checks

    async def run(self) -> None:
        """Refresh, forever, the gauges that other worker processes may show."""
        while True:
            self.refresh()
            await asyncio.sleep(REFRESH_S)

    def refresh(self) -> None:
        """Update the gauges that are sampled rather than counted as events happen."""
        self.telemetry.tasks.set(len(asyncio.all_tasks()))
        self.telemetry.refresh()
        self._refresh()

    async def failures(self) -> dict[str, str]:
        """Return the failed checks with their reasons; empty if all pass."""
        found = await asyncio.gather(*map(self._failure, self._checks))
        return {name: reason for name, reason in zip(self._checks, found, strict=True) if reason}

    async def _failure(self, name: str) -> str | None:
        try:
            async with asyncio.timeout(CHECK_DEADLINE_S):
                await self._checks[name]()
        except TimeoutError:
            return f"no answer within {CHECK_DEADLINE_S:g} s"
        except InfraWatchError as error:
            return str(error)
        return None


class Liveness(BaseModel):
    status: str = "alive"


class Readiness(BaseModel):
    """`failures` maps failed checks to their reasons; `details` does not affect readiness."""

    status: str
    failures: dict[str, str]
    details: dict[str, str]


async def _health(request: Request) -> Health:  # async, as plain functions run in threads
    health: Health = request.state.health
    return health


@router.get("/livez")
async def livez() -> Liveness:
    """Report that the process is running; use /readyz to see whether it can serve."""
    return Liveness()


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(health: Annotated[Health, Depends(_health)]) -> Response:
    """Report whether the server can accept samples and queries now, and if not, why."""
    failures = await health.failures()
    readiness = Readiness(
        status="not ready" if failures else "ready",
        failures=failures,
        details=dict(health.details()),
    )
    return JSONResponse(readiness.model_dump(), status_code=503 if failures else 200)


@router.get("/metrics", response_class=Response)
async def metrics(
    _principal: MaySeeMetrics, health: Annotated[Health, Depends(_health)]
) -> Response:
    """Return the server's own metrics in the Prometheus text format.

    They cover all tenants, so they require a key of the tenant `default` with the scope `read`;
    with INFRAWATCH_METRICS=open no key is required.
    """
    health.refresh()
    return Response(health.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)


class CountRequests:
    """Counts and times every HTTP request under its route's template, never its raw path."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._requests = lru_cache(_LABELS)(telemetry.requests.labels)
        self._seconds = lru_cache(_LABELS)(telemetry.request_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = monotonic()
        try:
            await self._app(scope, receive, noting_status)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._requests(scope["method"], route, status).inc()
            self._seconds(route).observe(monotonic() - started)

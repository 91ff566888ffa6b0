"""Enforcement of limits; checking a principal without limits costs a dict lookup."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infrawatch.access.limits.active_series import ActiveSeries
from infrawatch.access.limits.cache import LimitsCache
from infrawatch.access.limits.rates import WINDOW_S, Policy, Rates, Usage
from infrawatch.access.limits.shared import Shared
from infrawatch.access.limits.viewers import Viewers
from infrawatch.access.principal import Principal
from infrawatch.errors import BatchTooLarge, LimitExceeded
from infrawatch.store.database import Database

_USAGE: ContextVar[list[Usage]] = ContextVar("usage")
"""What the current request has used of its limits."""

_HOW = "`infrawatch limits` shows and changes what is allowed"


class Budget(NamedTuple):
    """What one query may read; None means the server's own limit."""

    samples: int | None = None
    series: int | None = None


UNLIMITED = Budget()


class Limiter:
    """One instance per process. Without limits in the database, nothing is limited."""

    def __init__(
        self, database: Database, rates: Rates, shared: Shared, write_deadline: timedelta
    ) -> None:
        self.cache = LimitsCache(database)
        self.active_series = ActiveSeries(shared, write_deadline)
        self._rates = rates
        self._viewers = Viewers(shared)
        self.runs: Sequence[Callable[[], Coroutine[object, object, None]]] = (
            self.cache.run,
            self._viewers.run,
            self.active_series.run,
        )

    async def admit_request(self, principal: Principal) -> None:
        """Count a request.

        Raises:
            LimitExceeded: there were too many.
        """
        for name, limits in self.cache.of(principal):
            if limits.requests_per_s is not None:
                await self._spend(Policy(name, "requests", limits.requests_per_s), 1)

    async def admit_samples(self, principal: Principal, samples: int) -> None:
        """Count samples that are about to be stored.

        Raises:
            BatchTooLarge: the batch by itself exceeds the limit.
            LimitExceeded: there were too many; the batch may be sent again later.
        """
        if not samples:
            return
        for name, limits in self.cache.of(principal):
            if limits.samples_per_s is None:
                continue
            policy = Policy(name, "samples", limits.samples_per_s)
            if samples > policy.quota:
                raise BatchTooLarge(
                    f"{samples} samples in one batch, and the limit is {limits.samples_per_s:g} a "
                    f"second: send at most {policy.quota} at once; {_HOW}"
                )
            await self._spend(policy, samples)

    def max_series(self, principal: Principal) -> int | None:
        """Return how many active series the tenant may have; None if unlimited."""
        tenants = self.cache.of(principal._replace(key_id=None))
        return tenants[0].limits.active_series if tenants else None

    def budget(self, principal: Principal) -> Budget:
        """Return what one query may read."""
        applying = self.cache.of(principal)
        samples = [one.limits.query_samples for one in applying if one.limits.query_samples]
        series = [one.limits.query_series for one in applying if one.limits.query_series]
        return Budget(min(samples, default=None), min(series, default=None))

    @asynccontextmanager
    async def viewing(self, principal: Principal) -> AsyncGenerator[None, None]:
        """Count a live connection until the block ends.

        Raises:
            LimitExceeded: there are too many.
        """
        async with AsyncExitStack() as stack:
            for one in self.cache.of(principal):
                limit = one.limits.live_connections
                if limit is None:
                    continue
                if not await stack.enter_async_context(self._viewers.counted(one.name, limit)):
                    raise LimitExceeded(
                        f"this {_kind_of(one.name)} may have {limit} live connections, and has as "
                        f"many: close one; {_HOW}",
                        retry_after=timedelta(seconds=WINDOW_S),
                    )
            yield

    async def _spend(self, policy: Policy, amount: int) -> None:
        usage = await self._rates.spend(policy, amount)
        _USAGE.get([]).append(usage)
        if not usage.is_allowed:
            raise LimitExceeded(
                f"more than {policy.per_s:g} {policy.what} a second for this "
                f"{_kind_of(policy.holder)}: wait, or send less; {_HOW}",
                retry_after=timedelta(seconds=usage.more_in_s),
            )


class RateLimitHeaders:
    """Adds what is left of the caller's rate limits to every response.

    Source: draft-ietf-httpapi-ratelimit-headers-10.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        usage: list[Usage] = []
        _USAGE.set(usage)

        async def adding_headers(message: Message) -> None:
            if usage and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_to_headers(usage)]
            await send(message)

        await self._app(scope, receive, adding_headers)


def _to_headers(usage: Sequence[Usage]) -> Sequence[tuple[bytes, bytes]]:
    policies = (f"{_label(one.policy)};q={one.policy.quota};w={WINDOW_S}" for one in usage)
    left = (f"{_label(one.policy)};r={one.left};t={one.more_in_s}" for one in usage)
    return (
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(left).encode()),
    )


def _label(policy: Policy) -> str:
    return f'"{_kind_of(policy.holder)}-{policy.what}"'


def _kind_of(holder: str) -> str:
    """Return `tenant` or `key`: names of holders begin with it."""
    return holder.partition(":")[0]

"""Rates: counted in Redis for all servers, or in this process while Redis is unreachable."""

import asyncio
from math import ceil
from time import monotonic
from typing import NamedTuple

import structlog
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

log = structlog.get_logger()

WINDOW_S = 10
"""How many seconds' worth may be spent at once: agents send in bursts."""

DEADLINE_S = 0.25
PAUSE_S = 5.0
"""An unresponsive Redis delays one request by DEADLINE_S, and is then not asked for PAUSE_S."""


class Policy(NamedTuple):
    """A limit of `per_s` `what` (requests, samples) a second for `holder`, counted by window."""

    holder: str
    what: str
    per_s: float
    window_s: int = WINDOW_S

    @property
    def quota(self) -> int:
        """The amount that may be spent in a window."""
        return max(1, ceil(self.per_s * self.window_s))


class Usage(NamedTuple):
    """Whether an amount was allowed, what is left of the window, and when there will be more."""

    policy: Policy
    is_allowed: bool
    left: int
    more_in_s: int


class Rates:
    """Counters of rates; one instance per process."""

    def __init__(self, redis_url: str | None, key_prefix: str = "infrawatch:limits") -> None:
        self._here = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = None if redis_url is None else _in_redis(redis_url, key_prefix)
        self._away_until = 0.0

    async def spend(self, policy: Policy, amount: int) -> Usage:
        """Count `amount`, unless it exceeds what is left of the window; never raises.

        While Redis is unreachable, every server counts by itself, so together they allow more.
        """
        usage = await self.spend_together(policy, amount)
        return await _spend(self._here, policy, amount) if usage is None else usage

    async def spend_together(self, policy: Policy, amount: int) -> Usage | None:
        """Count for all servers together; None without Redis, and while it is unreachable."""
        if self._shared is None or monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await _spend(self._shared, policy, amount)
        except (StorageError, OSError) as error:  # TimeoutError is one
            self._away_until = monotonic() + PAUSE_S
            log.warning("limits_counted_here", error=type(error).__name__, for_s=PAUSE_S)
            return None


def _in_redis(url: str, key_prefix: str) -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(
        RedisStorage(
            f"async+{'redis+' if url.startswith('unix:') else ''}{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=key_prefix,
            socket_timeout=DEADLINE_S,
            socket_connect_timeout=DEADLINE_S,
        )
    )


async def _spend(counters: SlidingWindowCounterRateLimiter, policy: Policy, amount: int) -> Usage:
    item: RateLimitItem = RateLimitItemPerSecond(policy.quota, policy.window_s, policy.what)
    is_allowed = await counters.hit(item, policy.holder, cost=amount)
    stats = await counters.get_window_stats(item, policy.holder)
    missing = 0 if is_allowed else amount - stats.remaining
    # The window slides: an amount that was spent evenly is released evenly.
    more_in_s = max(1, ceil(min(policy.window_s, missing / policy.per_s)))
    return Usage(policy, is_allowed, stats.remaining, more_in_s)

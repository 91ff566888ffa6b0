"""How fast somebody is: counted in Redis for all servers, or here while Redis is away."""

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
"""A sender may be that much ahead: agents send in bursts."""

DEADLINE_S = 0.25
PAUSE_S = 5.0
"""A Redis that does not answer costs one request so much, and is then left alone for a while."""


class Policy(NamedTuple):
    """So many `what` (requests, samples) a second for `holder`, counted by the window."""

    holder: str
    what: str
    per_s: float
    window_s: int = WINDOW_S

    @property
    def quota(self) -> int:
        """What may be spent in a window."""
        return max(1, ceil(self.per_s * self.window_s))


class Spent(NamedTuple):
    """Whether it could be spent; what is left of the window, and when more will be."""

    policy: Policy
    is_allowed: bool
    left: int
    more_in_s: int


class Rates:
    """One for a process."""

    def __init__(self, redis_url: str | None) -> None:
        self._here = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = None if redis_url is None else _in_redis(redis_url)
        self._away_until = 0.0

    async def spend(self, policy: Policy, amount: int) -> Spent:
        """Count `amount`, unless that is more than is left of the window; never fails.

        While Redis is away every server counts by itself, so together they allow more.
        """
        spent = await self.spend_together(policy, amount)
        return await _spend(self._here, policy, amount) if spent is None else spent

    async def spend_together(self, policy: Policy, amount: int) -> Spent | None:
        """Count what all servers spend; None without Redis, and while it is away."""
        if self._shared is None or monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await _spend(self._shared, policy, amount)
        except (StorageError, OSError) as error:  # TimeoutError is one
            self._away_until = monotonic() + PAUSE_S
            log.warning("limits_counted_here", error=type(error).__name__, for_s=PAUSE_S)
            return None


def _in_redis(url: str) -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(
        RedisStorage(
            f"async+{'redis+' if url.startswith('unix:') else ''}{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="infrawatch:limits",
            socket_timeout=DEADLINE_S,
            socket_connect_timeout=DEADLINE_S,
        )
    )


async def _spend(counters: SlidingWindowCounterRateLimiter, policy: Policy, amount: int) -> Spent:
    item: RateLimitItem = RateLimitItemPerSecond(policy.quota, policy.window_s, policy.what)
    is_allowed = await counters.hit(item, policy.holder, cost=amount)
    stats = await counters.get_window_stats(item, policy.holder)
    missing = 0 if is_allowed else amount - stats.remaining
    # The window slides: what was spent evenly comes back evenly.
    more_in_s = max(1, ceil(min(policy.window_s, missing / policy.per_s)))
    return Spent(policy, is_allowed, stats.remaining, more_in_s)

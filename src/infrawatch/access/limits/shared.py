"""Scripts in Redis, which count for all servers; while it is unreachable, each counts by itself."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Self
from uuid import UUID

import structlog

from infrawatch.access.limits.rates import PAUSE_S

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

DEADLINE_S = 1.0
"""An unresponsive Redis delays one caller so long, and is then not asked for PAUSE_S. This process
is sometimes busy for a quarter of a second, for which Redis is not to blame."""


class Shared:
    """What the servers of one database count together; one instance per process."""

    def __init__(self, redis: "Redis | None", epoch: UUID) -> None:
        self._redis = redis
        self._epoch = epoch
        self._away_until = 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str | None, epoch: UUID) -> AsyncGenerator[Self, None]:
        """Open it with connections of its own, which are made on first use."""
        if url is None:
            yield cls(None, epoch)
            return
        # Imported only with a URL, as redis-py takes a twentieth of a server's start-up time.
        from infrawatch.access.limits.redis_client import redis_client  # noqa: PLC0415

        async with redis_client(url, timeout_s=DEADLINE_S) as redis:
            yield cls(redis, epoch)

    def key(self, *parts: str | int) -> str:
        """Return the key of a counter; installations that share a Redis have different ones."""
        return ":".join(("infrawatch", str(self._epoch), *map(str, parts)))

    async def run(
        self, script: str, keys: Sequence[str], *arguments: str | bytes | float
    ) -> object | None:
        """Return the result of a script; None without Redis, and while it is unreachable.

        After None the script may have run nevertheless.
        """
        if self._redis is None or monotonic() < self._away_until:
            return None
        from redis.exceptions import RedisError  # noqa: PLC0415  # as in `open`

        try:
            async with asyncio.timeout(DEADLINE_S):
                result: object = await self._redis.eval(script, len(keys), *keys, *arguments)
        except (RedisError, OSError) as error:  # TimeoutError is one
            self._away_until = monotonic() + PAUSE_S
            log.warning("counted_here", error=type(error).__name__, for_s=PAUSE_S)
            return None
        return result

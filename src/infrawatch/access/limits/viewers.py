"""Counts of live connections: in Redis for all servers, or here while it is unreachable.

Each connection is a lease, which its server renews while it lasts: the leases of a server that
dies expire soon.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex

from infrawatch.access.limits.shared import Shared

LEASE_S = 30
RENEW_EVERY_S = 10.0

# Redis' own clock is used, so that servers need not agree on the time.
_NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""

# KEYS: the holder; ARGV: the limit, the duration of a lease, the new lease.
_TAKE = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS: the holder; ARGV: the duration of a lease, the leases of one server.
_RENEW = f"""{_NOW}
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[place]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class Viewers:
    """One instance per process. A holder is a tenant or a key, by name."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._leases: dict[str, set[str]] = {}

    @asynccontextmanager
    async def counted(self, holder: str, limit: int) -> AsyncGenerator[bool, None]:
        """Count a connection until the block ends, if there is room; yield whether there is.

        While Redis is unreachable, every server counts by itself, so together they allow more.
        """
        lease = token_hex(8)
        leases = self._leases.setdefault(holder, set())
        has_room = len(leases) < limit
        if has_room:
            leases.add(lease)
        try:
            if has_room:
                has_room = await self._ask(_TAKE, holder, limit, LEASE_S, lease) != 0
            yield has_room
        finally:
            if lease in leases:
                leases.remove(lease)
                await self._ask("return redis.call('ZREM', KEYS[1], ARGV[1])", holder, lease)
            if not leases:
                self._leases.pop(holder, None)

    async def run(self) -> None:
        """Renew the leases of this process, forever."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            for holder, leases in list(self._leases.items()):
                await self._ask(_RENEW, holder, LEASE_S, *leases)

    async def _ask(self, script: str, holder: str, *arguments: str | int) -> object | None:
        """Return the result of a script; None without Redis, and while it is unreachable."""
        return await self._shared.run(
            script, [self._shared.key("live_connections", holder)], *arguments
        )

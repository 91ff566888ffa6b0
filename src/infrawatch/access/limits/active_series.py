"""Active series of tenants: counted in Redis for all servers, or here while it is unreachable."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import compress
from math import inf
from time import monotonic
from typing import NamedTuple, cast

from infrawatch.access.limits.shared import Shared

COUNT_AGAIN_S = 60.0
COUNT_SOON_S = 5.0
"""Maximum age of a count while there is room, and when there is none: series become inactive."""

DEADLINES = 3
"""Number of write deadlines for which a name is recent: its own request takes up to one, another
that creates the same series a second, and a count that began just before the commit a third."""

FINGERPRINT_BYTES = 16
"""Length of the fingerprint of a name."""

CountStored = Callable[[int], Awaitable[int]]
"""Counts the active series in PostgreSQL, or all stored ones if they are fewer than told."""

# KEYS: the count of a tenant, the names granted recently, and those before them.
# ARGV: the limit; the number of series granted without Redis; for how long names are recent; the
# maximum ages of the count; the result of counting, if any; the fingerprints, one after the other.
# Returns the count, and 1 or 0 for each name; nothing for names if series have to be counted first.
# Redis' own clock is used, so that servers need not agree on the time.
_GRANT = f"""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local limit, unreported, recent_s = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local counted, names, length = tonumber(ARGV[6]), ARGV[7], {FINGERPRINT_BYTES}
local kept_s = math.ceil(2 * recent_s + ARGV[4])

local known = redis.call('HMGET', KEYS[1], 'series', 'counted_at', 'rotated_at')
local series, counted_at, rotated_at = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
if not rotated_at or now - rotated_at >= recent_s then
    redis.call('DEL', KEYS[3])
    if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[3]) end
    redis.call('HSET', KEYS[1], 'rotated_at', now)
    redis.call('EXPIRE', KEYS[1], kept_s)
end

local granted, new = {{}}, {{}}
for place = 1, #names / length do
    local name = string.sub(names, length * (place - 1) + 1, length * place)
    local is_recent = redis.call('SISMEMBER', KEYS[2], name) == 1
        or redis.call('SISMEMBER', KEYS[3], name) == 1
    granted[place] = is_recent and 1 or 0
    if not is_recent then new[#new + 1] = {{place, name}} end
end

series = series and series + unreported
if counted then
    local bound = counted + unreported + redis.call('SCARD', KEYS[2]) + redis.call('SCARD', KEYS[3])
    series = series and series >= counted and math.min(series, bound) or bound
    counted_at = now
elseif not series then
    return {{0, ''}}
elseif #new > 0 and now - counted_at >= tonumber(series + #new <= limit and ARGV[4] or ARGV[5]) then
    return {{0, ''}}
end

for number = 1, math.min(#new, limit - series) do
    local place, name = unpack(new[number])
    redis.call('SADD', KEYS[2], name)
    granted[place] = 1
    series = series + 1
end
redis.call('HSET', KEYS[1], 'series', series, 'counted_at', counted_at)
redis.call('EXPIRE', KEYS[1], kept_s)
redis.call('EXPIRE', KEYS[2], kept_s)
return {{series, table.concat(granted)}}
"""


class _Asked(NamedTuple):
    fingerprints: Sequence[bytes]
    limit: int
    counted: int | None = None


class ActiveSeries:
    """One instance per process.

    The count of a tenant is PostgreSQL's, at most a minute old, plus the series granted since. It
    is never too low, although PostgreSQL lacks series that are granted but not yet committed: once
    counted again, it is the lower one of two upper bounds, which are the count before, and that of
    PostgreSQL plus all names granted recently. Asking again for a recent name is free, and a name
    that is never stored counts until it is no longer recent.
    """

    def __init__(self, shared: Shared, write_deadline: timedelta) -> None:
        self._shared = shared
        self._recent_s = DEADLINES * write_deadline.total_seconds()
        self._here: defaultdict[int, _Here] = defaultdict(_Here)

    async def grant(
        self, tenant_id: int, fingerprints: Sequence[bytes], limit: int, count_stored: CountStored
    ) -> Sequence[bool]:
        """Return for each of some distinct new names whether there is room; it is then taken.

        While Redis is unreachable, every server goes on by itself from the count that it knows, so
        together they may grant as much as each has room for.

        Raises:
            StoreUnavailable: the series cannot be counted now; none was granted.
        """
        async with self._here[tenant_id].turn:
            granted = await self._grant(tenant_id, _Asked(fingerprints, limit))
            if granted is None:
                counted = await count_stored(limit - len(fingerprints))
                granted = await self._grant(tenant_id, _Asked(fingerprints, limit, counted))
        assert granted is not None
        return granted

    async def run(self) -> None:
        """Forget names that are no longer recent, forever."""
        while True:
            await asyncio.sleep(self._recent_s)
            for here in self._here.values():
                here.rotate(self._recent_s)

    async def _grant(self, tenant_id: int, asked: _Asked) -> Sequence[bool] | None:
        """Return what is granted; None if the series have to be counted first."""
        here = self._here[tenant_id]
        here.rotate(self._recent_s)
        answer = await self._shared.run(
            _GRANT,
            [self._shared.key("active_series", tenant_id, part) for part in _PARTS],
            asked.limit,
            here.unreported,
            self._recent_s,
            COUNT_AGAIN_S,
            COUNT_SOON_S,
            "" if asked.counted is None else asked.counted,
            b"".join(asked.fingerprints),
        )
        if answer is None:
            return here.grant(asked)
        series, bits = cast("tuple[int, bytes]", answer)
        return here.learn(asked, series, bits) if bits else None


_PARTS = ("count", "recent", "before")


class _Here:
    """The count of a tenant as this server knows it; `grant` does what the script does."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.unreported = 0
        self._series = 0
        self._counted_at = -inf
        self._recent: set[bytes] = set()
        self._before: set[bytes] = set()
        self._rotated_at = -inf

    def rotate(self, recent_s: float) -> None:
        if monotonic() - self._rotated_at >= recent_s:
            self._before, self._recent = self._recent, set()
            self._rotated_at = monotonic()

    def grant(self, asked: _Asked) -> Sequence[bool] | None:
        new = [
            fingerprint for fingerprint in asked.fingerprints if not self._is_recent(fingerprint)
        ]
        if asked.counted is not None:
            bound = asked.counted + len(self._recent) + len(self._before)
            is_bound = self._series >= asked.counted
            self._series = min(self._series, bound) if is_bound else bound
            self._counted_at = monotonic()
        elif new and monotonic() - self._counted_at >= self._max_age_s(len(new), asked.limit):
            return None
        granted = new[: max(0, asked.limit - self._series)]
        self._recent.update(granted)
        self._series += len(granted)
        self.unreported += len(granted)
        return [self._is_recent(fingerprint) for fingerprint in asked.fingerprints]

    def learn(self, asked: _Asked, series: int, bits: bytes) -> Sequence[bool]:
        """Take over what Redis has granted to this server."""
        granted = [bit == ord("1") for bit in bits]
        self._recent.update(compress(asked.fingerprints, granted))
        self._series, self._counted_at = series, monotonic()
        self.unreported = 0
        return granted

    def _max_age_s(self, wanted: int, limit: int) -> float:
        return COUNT_AGAIN_S if self._series + wanted <= limit else COUNT_SOON_S

    def _is_recent(self, fingerprint: bytes) -> bool:
        return fingerprint in self._recent or fingerprint in self._before

"""What was acknowledged, and whether exactly that is in the store."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import httpx
from sqlalchemy import text

from infrawatch.errors import Unavailable
from infrawatch.store.database import Database
from infrawatch.upkeep import compaction

T = TypeVar("T")

PATIENCE_S = 240

Key = tuple[str, int]
"""Of which host, and at what time (ms)."""

_STORED = text("""
SELECT labels ->> 'host', (extract(epoch FROM at) * 1000)::bigint, value
FROM samples WHERE metric = :metric
""")
_ROLLED_UP = text("SELECT coalesce(sum(count), 0)::bigint FROM rollup_5m WHERE metric = :metric")


@dataclass(slots=True)
class Found:
    """What differs between ledger and store: every one of these has to be 0."""

    missing: int = 0
    doubled: int = 0
    invented: int = 0

    def compare(self, acknowledged: Mapping[Key, float], rows: list[tuple[Key, float]]) -> None:
        """Hold the samples of the store against what was acknowledged."""
        stored = dict(rows)
        self.doubled += len(rows) - len(stored)
        self.missing += sum(stored.get(key) != value for key, value in acknowledged.items())
        self.invented += len(stored.keys() - acknowledged.keys())

    def count(self, acknowledged: int, counted: int) -> None:
        """Hold a count that the store made by itself against what was acknowledged."""
        self.doubled += max(0, counted - acknowledged)
        self.missing += max(0, acknowledged - counted)


@dataclass(slots=True)
class Ledger:
    """The samples of one metric, as their senders know them; `statuses` are those they met."""

    metric: str
    acknowledged: dict[Key, float] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)

    async def audit(self, database: Database, url: str) -> Found:
        """Look for it in every way there is: SQL, the API, and again when all is compacted.

        Everybody has to have stopped sending. A sample that two rows of SQL tell of, or that a
        count counts twice, is doubled; one that was never acknowledged is invented.
        """
        found = Found()
        select, count = partial(self._select, database), partial(self._count_rolled_up, database)
        found.compare(self.acknowledged, await _patiently(select))
        found.count(len(self.acknowledged), await _patiently(partial(self._count_by_api, url)))
        await _patiently(partial(compaction.compact_until, database, datetime.now(UTC)))
        await _patiently(partial(compaction.merge_until, database, compaction.EVERYTHING))
        found.compare(self.acknowledged, await _patiently(select))
        found.count(len(self.acknowledged), await _patiently(count))
        return found

    async def _select(self, database: Database) -> list[tuple[Key, float]]:
        async with database.reading() as connection:
            rows = await connection.execute(_STORED, {"metric": self.metric})
            return [((host, at_ms), value) for host, at_ms, value in rows]

    async def _count_rolled_up(self, database: Database) -> int:
        async with database.reading() as connection:
            return int((await connection.execute(_ROLLED_UP, {"metric": self.metric})).scalar_one())

    async def _count_by_api(self, url: str) -> int:
        span = {"start": "-1d", "end": "now", "step": "1h", "fn": "count", "across": "sum"}
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.get(f"{url}/v1/range", params={"match": self.metric, **span})
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise Unavailable(answer.text)
        assert answer.status_code == httpx.codes.OK, answer.text
        counts = (value for one in answer.json()["series"] for _, value in one["samples"])
        return int(sum(filter(None, counts)))


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Retry while the server is unavailable: its pool may still hold killed connections."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(Unavailable):
                return await attempt()
            await asyncio.sleep(0.05)

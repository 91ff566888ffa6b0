"""Creation of series for unknown names, together for all requests that wait."""

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain, islice

from infrawatch.errors import StoreConflict
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.model.labels import SeriesName
from infrawatch.store.database import Database
from infrawatch.store.series import SeriesRepository
from infrawatch.telemetry import Telemetry

_AT_ONCE = 500
"""Series created per transaction, which blocks the loop for two milliseconds at a time and lets
other tenants take their turn soon. Requests served together are committed together, so fewer at
a time would also make more groups, each as costly as 25 series (docs/decisions/0011)."""

NamesByKey = Mapping[Hashable, SeriesName]


class Resolver:
    """Runs one small transaction at a time; tenants and formats take turns.

    When a fleet starts, a transaction serves all of its agents that wait meanwhile. The cache
    learns the ids once they are committed.
    """

    def __init__(self, database: Database, cache: SeriesCache, telemetry: Telemetry) -> None:
        self._database = database
        self._cache = cache
        self._telemetry = telemetry
        self._turn = asyncio.Lock()  # first come, first served
        self._turns: defaultdict[KeySpace, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[KeySpace, dict[Hashable, SeriesName]] = defaultdict(dict)

    async def resolve(self, space: KeySpace, names: NamesByKey) -> Mapping[Hashable, int]:
        """Return the ids of these names, by key; creates missing series.

        Raises:
            StoreUnavailable: the series may or may not be created; retrying is safe.
        """
        waiting = self._waiting[space]
        waiting |= names
        try:
            async with self._turns[space]:
                return await self._resolve(space, names)
        finally:  # if cancelled, these are no longer wanted
            for key in names:
                waiting.pop(key, None)

    async def _resolve(self, space: KeySpace, names: NamesByKey) -> dict[Hashable, int]:
        known = zip(names, self._cache.find(space, list(names)), strict=True)
        ids = {key: series_id for key, series_id in known if series_id is not None}
        if len(ids) == len(names):  # created by the previous request
            return ids
        own = {key: name for key, name in names.items() if key not in ids} if ids else names
        others = ((key, name) for key, name in self._waiting[space].items() if key not in own)
        together = chain(own.items(), list(islice(others, max(0, _AT_ONCE - len(own)))))
        while part := dict(islice(together, _AT_ONCE)):
            async with self._turn:
                ids |= await self._create(space, part)
        return ids

    async def _create(self, space: KeySpace, part: NamesByKey) -> dict[Hashable, int]:
        names = list(part.values())
        try:
            resolved = await self._store(space.tenant_id, names)
        except StoreConflict:  # with a server of another version, which uses another order
            resolved = await self._store(space.tenant_id, names)
        ids = dict(zip(part, resolved, strict=True))
        self._cache.add_all(space, ids)
        waiting = self._waiting[space]
        for key in ids:
            waiting.pop(key, None)
        self._telemetry.series_resolved.inc(len(part))
        return ids

    async def _store(self, tenant_id: int, names: Sequence[SeriesName]) -> list[int]:
        async with self._database.committing() as connection:
            return await SeriesRepository(connection, tenant_id).resolve(names)

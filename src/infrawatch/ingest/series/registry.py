"""The series of a batch: known ones are found, new ones are named, and created once admitted."""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from infrawatch.access.limits.limiter import Limiter
from infrawatch.access.principal import Principal
from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.scheduling.offload import Offload
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.ingest.series.naming import Names, read_names
from infrawatch.ingest.series.quota import SeriesQuota, UnknownSeries
from infrawatch.ingest.series.resolver import Resolver
from infrawatch.model.samples import Bools, Int64s

Ids = list[int | None] | Int64s
"""One id per series: a list while some may be missing, an array once all are known."""

_OFF_LOOP_NAMES = 1_000
_OFF_LOOP_NAMES_BYTES = 128 * 1024
"""Reading this many names, or this many bytes, takes about 20 ms; more are read in a thread."""


class BatchSeries(NamedTuple):
    """The ids of a batch's series, and the names of new ones; refused ones have neither."""

    ids: Ids
    names: Names

    def find_samples(self, decoded: Decoded) -> Bools | None:
        """Mark the samples whose series is not refused; None means all of them."""
        if not decoded.verdicts:
            return None
        is_named = [
            series_id is not None or n in self.names for n, series_id in enumerate(self.ids)
        ]
        return np.repeat(np.array(is_named, np.bool_), decoded.counts)


class SeriesRegistry:
    """Finds, names and creates the series of batches."""

    def __init__(
        self,
        cache: SeriesCache,
        quota: SeriesQuota,
        resolver: Resolver,
        limiter: Limiter,
        offload: Offload,
    ) -> None:
        self._cache = cache
        self._quota = quota
        self._resolver = resolver
        self._limiter = limiter
        self._offload = offload

    async def find(self, space: KeySpace, principal: Principal, decoded: Decoded) -> BatchSeries:
        """Look up the ids of cached series, and read the names of the others.

        Series that may not be stored get verdicts.

        Raises:
            Unavailable: series cannot be looked up or counted now.
        """
        ids = self._find_ids(space, decoded)
        return BatchSeries(ids, await self._name(principal, decoded, ids))

    async def create(self, space: KeySpace, decoded: Decoded, series: BatchSeries) -> Int64s:
        """Return all ids, with 0 for series that are refused; the cache learns those of new ones.

        Raises:
            StoreUnavailable: the series may or may not be created; retrying is safe.
        """
        ids, names = series
        if isinstance(ids, np.ndarray):
            return ids
        if names:
            keys = decoded.keys
            resolved = await self._resolver.resolve(
                space, {keys[number]: name for number, name in names.items()}
            )
            for number in names:
                ids[number] = resolved[keys[number]]
        return np.array([one or 0 for one in ids] if None in ids else ids, np.int64)

    def _find_ids(self, space: KeySpace, decoded: Decoded) -> Ids:
        if decoded.ids is not None:
            return decoded.ids
        column = self._cache.find_column(space, decoded.keys)
        return self._cache.find(space, decoded.keys) if column is None else column

    async def _name(self, principal: Principal, decoded: Decoded, ids: Ids) -> Names:
        if isinstance(ids, np.ndarray) or None not in ids:
            return {}
        tenant_id, max_series = principal.tenant_id, self._limiter.max_series(principal)
        if max_series is None:
            parts = await self._read_names(tenant_id, decoded, ids)
            return {place: name for part in parts for place, name in part.items()}
        async with self._quota.turn(tenant_id) as low_priority:
            parts = (
                read_names(decoded, ids)
                if low_priority
                else await self._read_names(tenant_id, decoded, ids)
            )
            unknown = UnknownSeries(tenant_id, decoded, parts)
            return await self._quota.keep_within(max_series, unknown, low_priority)

    async def _read_names(
        self, tenant_id: int, decoded: Decoded, ids: Sequence[int | None]
    ) -> Iterator[Names]:
        reading = read_names(decoded, ids)
        if _are_few(decoded.keys, ids):
            return reading
        return iter(await self._offload.run(tenant_id, list, reading))


def _are_few(keys: Sequence[Hashable], ids: Sequence[int | None]) -> bool:
    """Whether the series without an id are few enough to read their names on the event loop."""
    new = [key for key, series_id in zip(keys, ids, strict=True) if series_id is None]
    texts = (key for key in new if isinstance(key, bytes | str))
    return len(new) <= _OFF_LOOP_NAMES and sum(map(len, texts)) <= _OFF_LOOP_NAMES_BYTES

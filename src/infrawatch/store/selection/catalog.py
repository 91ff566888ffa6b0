"""A cache of recently read series; it needs no invalidation, as an id never changes its name."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

MAX_BYTES = 32 * 1024 * 1024
"""Per process: enough for about fifty thousand series with five labels each."""

_SERIES_BYTES = 500
"""The memory a series takes in addition to the characters of its labels."""


class Series(NamedTuple):
    """A stored series."""

    id: int
    metric: str
    labels: Mapping[str, str]


class SeriesCatalog:
    """Series of all tenants by id; callers get ids from selections within their own tenant.

    The cache is cleared when it would overflow; an addition larger than the cache is not kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._series: dict[int, Series] = {}
        self._bytes = 0
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        """The number of cached series."""
        return len(self._series)

    def find(self, ids: Iterable[int]) -> dict[int, Series]:
        """Return the cached series among `ids`."""
        series = self._series
        return {series_id: series[series_id] for series_id in ids if series_id in series}

    def keep(self, found: Mapping[int, Series], characters: int) -> None:
        """Cache series whose labels take `characters` characters of JSON in total."""
        size = _SERIES_BYTES * len(found) + characters
        if size > self._max_bytes:
            return
        if self._bytes + size > self._max_bytes:
            self._series.clear()
            self._bytes = 0
        self._series.update(found)
        self._bytes += size

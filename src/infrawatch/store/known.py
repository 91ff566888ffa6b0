"""Series that were asked for lately: an id never gets another name, so that none goes stale."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

MAX_BYTES = 32 * 1024 * 1024
"""In a process: some fifty thousand series with five labels each."""

_SERIES_BYTES = 500
"""What a series takes beside the characters of its labels."""


class Series(NamedTuple):
    """A stored series."""

    id: int
    metric: str
    labels: Mapping[str, str]


class KnownSeries:
    """Series by id, of all tenants: whoever asks has the ids from a selection of their own.

    When it would overflow it begins anew; what would fill it alone is not kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._series: dict[int, Series] = {}
        self._bytes = 0
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._series)

    def find(self, ids: Iterable[int]) -> dict[int, Series]:
        """Those of the series that are kept."""
        series = self._series
        return {series_id: series[series_id] for series_id in ids if series_id in series}

    def keep(self, found: Mapping[int, Series], characters: int) -> None:
        """Keep series whose labels take so many characters of JSON."""
        size = _SERIES_BYTES * len(found) + characters
        if size > self._max_bytes:
            return
        if self._bytes + size > self._max_bytes:
            self._series.clear()
            self._bytes = 0
        self._series.update(found)
        self._bytes += size

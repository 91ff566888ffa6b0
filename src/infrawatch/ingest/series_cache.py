"""Which series a key means: what spares known series everything but one look-up."""

from collections.abc import Hashable, Sequence
from sys import getsizeof
from typing import NamedTuple

_ENTRY_BYTES = 120
"""A dict slot, in a dict that has just grown, and an int, on 64-bit CPython."""


class Space(NamedTuple):
    """Keys mean something only within one tenant and one format."""

    tenant_id: int
    format: str


class SeriesCache:
    """Ids by key, bounded in bytes.

    Two generations: when the young one has filled half the bound it becomes the old one, and
    what was old is forgotten. A look-up in the old one makes a key young again. So what is in
    use stays, at the price of a dict look-up and no bookkeeping.
    """

    def __init__(self, max_bytes: int) -> None:
        self._half_bytes = max_bytes // 2
        self._young_bytes = 0
        self._young: dict[Space, dict[Hashable, int]] = {}
        self._old: dict[Space, dict[Hashable, int]] = {}

    def find(self, space: Space, keys: Sequence[Hashable]) -> list[int | None]:
        """The id of each key, in order; None where it is not known."""
        young = self._young.setdefault(space, {})
        found = list(map(young.get, keys))
        if None in found and (old := self._old.get(space)):
            for place, series_id in enumerate(found):
                if series_id is None and (known := old.get(keys[place])) is not None:
                    found[place] = known
                    self.add(space, keys[place], known)
        return found

    def add(self, space: Space, key: Hashable, series_id: int) -> None:
        """Remember a key whose name has been checked and whose series is committed."""
        self._young.setdefault(space, {})[key] = series_id
        self._young_bytes += _ENTRY_BYTES + getsizeof(key)
        if self._young_bytes > self._half_bytes:
            self._old, self._young = self._young, {}
            self._young_bytes = 0

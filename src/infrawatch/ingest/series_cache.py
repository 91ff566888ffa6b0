"""Which series a key means: what spares known series everything but one look-up."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from sys import getsizeof
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.layouts import Layouts
from infrawatch.model.samples import Int64s

_ENTRY_BYTES = 120
"""A dict slot, in a dict that has just grown, and an int, on 64-bit CPython."""

_PARTS = 4
"""Of the bound: one for sequences, one for layouts, the others for single keys."""

_SHORTEST_SEQUENCE = 16
"""Fewer keys are looked up as fast as they are compared."""


class Space(NamedTuple):
    """Keys mean something only within one tenant and one format."""

    tenant_id: int
    format: str


class _Place(NamedTuple):
    """Where to look for a sequence: few senders share all of it."""

    space: Space
    length: int
    first: Hashable


class _Known(NamedTuple):
    """A sequence of keys and their ids."""

    keys: Sequence[Hashable]
    ids: list[int | None]
    column: Int64s
    held_bytes: int


class SeriesCache:
    """Ids by key, bounded in bytes.

    Two generations: when the young one has filled its half it becomes the old one, and what was
    old is forgotten. A look-up in the old one makes a key young again. So what is in use stays,
    at the price of a dict look-up and no bookkeeping.

    Beside them whole sequences are known, since most senders name the same series in the same
    order every time: to compare two sequences costs a fifth of looking up every key. `layouts`
    go further still, for formats that allow it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.layouts = Layouts(max_bytes // _PARTS)
        self._sequences_left_bytes = max_bytes // _PARTS
        self._sequences: OrderedDict[_Place, _Known] = OrderedDict()
        self._half_bytes = (max_bytes // _PARTS) * (_PARTS - 2) // 2
        self._young_bytes = 0
        self._young: dict[Space, dict[Hashable, int]] = {}
        self._old: dict[Space, dict[Hashable, int]] = {}

    def find(self, space: Space, keys: Sequence[Hashable]) -> list[int | None]:
        """The id of each key, in order; None where it is not known.

        A list without None is shared with others who ask: not to be changed.
        """
        known = self._find_sequence(space, keys)
        if known is not None:
            return known.ids
        found = self._look_up(space, keys)
        if len(keys) >= _SHORTEST_SEQUENCE and None not in found:
            self._keep(_Place(space, len(keys), keys[0]), keys, found)
        return found

    def find_column(self, space: Space, keys: Sequence[Hashable]) -> Int64s | None:
        """The ids of a sequence of keys that has been found before, complete; not to be changed."""
        known = self._find_sequence(space, keys)
        return None if known is None else known.column

    def add(self, space: Space, key: Hashable, series_id: int) -> None:
        """Remember a key whose name has been checked and whose series is committed."""
        self._young.setdefault(space, {})[key] = series_id
        self._young_bytes += _ENTRY_BYTES + getsizeof(key)
        if self._young_bytes > self._half_bytes:
            self._old, self._young = self._young, {}
            self._young_bytes = 0

    def _find_sequence(self, space: Space, keys: Sequence[Hashable]) -> _Known | None:
        if len(keys) < _SHORTEST_SEQUENCE:
            return None
        place = _Place(space, len(keys), keys[0])
        known = self._sequences.get(place)
        if known is None or known.keys != keys:
            return None
        self._sequences.move_to_end(place)
        return known

    def _look_up(self, space: Space, keys: Sequence[Hashable]) -> list[int | None]:
        young = self._young.setdefault(space, {})
        found = list(map(young.get, keys))
        if None in found and (old := self._old.get(space)):
            for place, series_id in enumerate(found):
                if series_id is None and (known := old.get(keys[place])) is not None:
                    found[place] = known
                    self.add(space, keys[place], known)
        return found

    def _keep(self, place: _Place, keys: Sequence[Hashable], ids: list[int | None]) -> None:
        """Remember a sequence; those that were not used longest make room for it."""
        before = self._sequences.pop(place, None)
        held_bytes = _ENTRY_BYTES * len(keys) + sum(map(getsizeof, keys))
        column = np.array(ids, np.int64)
        self._sequences[place] = _Known(keys[:], ids, column, held_bytes)  # theirs may change
        self._sequences_left_bytes += (before.held_bytes if before else 0) - held_bytes
        while self._sequences_left_bytes < 0:
            self._sequences_left_bytes += self._sequences.popitem(last=False)[1].held_bytes

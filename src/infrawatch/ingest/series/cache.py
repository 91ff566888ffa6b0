"""Cache of series ids by key: known series cost only one look-up."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from sys import getsizeof
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.ingest.series.layouts import LayoutCache
from infrawatch.model.samples import Int64s

_ENTRY_BYTES = 120
"""Size of a slot in a dict that has just grown, plus an int, on 64-bit CPython."""

_PARTS = 4
"""Parts of the memory bound: one for sequences, one for layouts, the others for single keys."""

_SHORTEST_SEQUENCE = 16
"""Fewer keys are looked up as fast as they are compared."""


class _SequenceKey(NamedTuple):
    """The cache key of a sequence, which few senders share."""

    space: KeySpace
    length: int
    first: Hashable


class _Sequence(NamedTuple):
    """A sequence of keys and their ids."""

    keys: Sequence[Hashable]
    ids: list[int | None]
    column: Int64s
    held_bytes: int


class SeriesCache:
    """Series ids by key, bounded in bytes.

    There are two generations: when the young one has filled its half, it becomes the old one, and
    the previous old one is dropped. A hit in the old generation moves the key to the young one. So
    keys in use stay cached, at the cost of a dict look-up without further bookkeeping.

    Whole sequences of keys are cached as well, because most senders send the same series in the
    same order every time: comparing two sequences costs a fifth of looking up every key. `layouts`
    go further still, for formats that allow it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.layouts = LayoutCache(max_bytes // _PARTS)
        self._sequences_left_bytes = max_bytes // _PARTS
        self._sequences: OrderedDict[_SequenceKey, _Sequence] = OrderedDict()
        self._half_bytes = (max_bytes // _PARTS) * (_PARTS - 2) // 2
        self._young_bytes = 0
        self._young: dict[KeySpace, dict[Hashable, int]] = {}
        self._old: dict[KeySpace, dict[Hashable, int]] = {}

    def find(self, space: KeySpace, keys: Sequence[Hashable]) -> list[int | None]:
        """Return the id of each key, in order; None for unknown keys.

        A list without None is shared between callers and must not be modified.
        """
        sequence = self._find_sequence(space, keys)
        if sequence is not None:
            return sequence.ids
        found = self._look_up(space, keys)
        if len(keys) >= _SHORTEST_SEQUENCE and None not in found:
            self._keep(_SequenceKey(space, len(keys), keys[0]), keys, found)
        return found

    def find_column(self, space: KeySpace, keys: Sequence[Hashable]) -> Int64s | None:
        """Return the ids of a sequence that was found completely before; must not be modified."""
        sequence = self._find_sequence(space, keys)
        return None if sequence is None else sequence.column

    def add(self, space: KeySpace, key: Hashable, series_id: int) -> None:
        """Add a key whose name has been checked and whose series is committed."""
        self.add_all(space, {key: series_id})

    def add_all(self, space: KeySpace, ids: Mapping[Hashable, int]) -> None:
        """Add keys, a small part of what fits, whose series are committed."""
        self._young.setdefault(space, {}).update(ids)
        self._young_bytes += _ENTRY_BYTES * len(ids) + sum(map(getsizeof, ids))
        if self._young_bytes > self._half_bytes:
            self._old, self._young = self._young, {}
            self._young_bytes = 0

    def _find_sequence(self, space: KeySpace, keys: Sequence[Hashable]) -> _Sequence | None:
        if len(keys) < _SHORTEST_SEQUENCE:
            return None
        place = _SequenceKey(space, len(keys), keys[0])
        sequence = self._sequences.get(place)
        if sequence is None or sequence.keys != keys:
            return None
        self._sequences.move_to_end(place)
        return sequence

    def _look_up(self, space: KeySpace, keys: Sequence[Hashable]) -> list[int | None]:
        young = self._young.setdefault(space, {})
        found = list(map(young.get, keys))
        if None in found and (old := self._old.get(space)):
            for place, series_id in enumerate(found):
                if series_id is None and (older := old.get(keys[place])) is not None:
                    found[place] = older
                    self.add(space, keys[place], older)
        return found

    def _keep(self, place: _SequenceKey, keys: Sequence[Hashable], ids: list[int | None]) -> None:
        """Cache a sequence, evicting the least recently used ones."""
        before = self._sequences.pop(place, None)
        held_bytes = _ENTRY_BYTES * len(keys) + sum(map(getsizeof, keys))
        column = np.array(ids, np.int64)
        copied = keys[:]  # callers may modify theirs
        self._sequences[place] = _Sequence(copied, ids, column, held_bytes)
        self._sequences_left_bytes += (before.held_bytes if before else 0) - held_bytes
        while self._sequences_left_bytes < 0:
            self._sequences_left_bytes += self._sequences.popitem(last=False)[1].held_bytes

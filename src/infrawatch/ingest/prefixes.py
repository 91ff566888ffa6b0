"""Text whose pieces begin as those of a body before: the beginnings are cut off, numbers are left.

A piece is a line of line protocol, or a series of a JSON batch: what names the series, and then
numbers. Agents name the same series in the same order every time. So it need not be looked for
where a name ends, nor which series it means: a piece either begins as the one in its place did, or
the body is read anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from infrawatch.ingest.layouts import KEY_BYTES, Layouts, Place
from infrawatch.ingest.series_cache import Space
from infrawatch.model.samples import Int64s, Positions

_POINTER_BYTES = 8
_FEWEST = 16
"""Fewer pieces are read anew as fast as they are compared."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What the pieces of a body began with, and whose they were.

    Series n is named by `keys[n]` and had the pieces from `firsts[n]` to `firsts[n + 1]`.
    """

    prefixes: Sequence[bytes]
    joined_bytes: int
    keys: Sequence[bytes]
    ids: Int64s
    firsts: Positions

    @classmethod
    def of(cls, keys: Sequence[bytes], end: bytes, firsts: Positions, ids: Int64s) -> Self:
        """Prefixes that are each the key of their series, and then `end`."""
        counts = np.diff(firsts).tolist()
        prefixes = [
            prefix
            for key, count in zip(keys, counts, strict=True)
            for prefix in count * [key + end]  # one object for all pieces of a series
        ]
        return cls(prefixes, sum(map(len, prefixes)), keys, ids, firsts)

    def stripped(self, pieces: Sequence[bytes]) -> list[bytes] | None:
        """What is left of as many pieces without their prefixes; None if one begins otherwise."""
        rests = list(map(bytes.removeprefix, pieces, self.prefixes))  # leaves others whole
        is_each = sum(map(len, pieces)) == self.joined_bytes + sum(map(len, rests))
        return rests if is_each else None

    @property
    def held_bytes(self) -> int:
        keys = 2 * sum(KEY_BYTES + len(key) for key in self.keys)
        return keys + _POINTER_BYTES * len(self.prefixes) + self.ids.nbytes + self.firsts.nbytes


class KnownPrefixes:
    """The prefixes that senders of one tenant and format repeat."""

    def __init__(self, layouts: Layouts, space: Space) -> None:
        self._layouts = layouts
        self._space = space

    def recall(self, pieces: int, first: bytes) -> Prefixes | None:
        """What so many pieces began with of which the first began so."""
        return self._layouts.find(self._place(pieces, first), Prefixes)

    def learn(
        self,
        keys: Sequence[bytes],
        end: bytes,
        firsts: Positions,
        ids: Sequence[int | None],
    ) -> None:
        """Remember a body that was read otherwise, if the like of it keeps coming."""
        place = self._place(int(firsts[-1]), keys[0])
        if firsts[-1] >= _FEWEST and self._layouts.is_worth_it(place) and None not in ids:
            self._layouts.add(place, Prefixes.of(keys, end, firsts, np.array(ids, np.int64)))

    def _place(self, pieces: int, first: bytes) -> Place:
        return self._space, pieces, first

"""Bodies whose lines begin like those of an earlier body: only the numbers are read.

All lines are compared at once. A prefix is compared by two parts of the same length, its head and
its tail, which overlap if it is shorter than both together. So prefixes of different lengths are
gathered from a text by two operations, and each compared with that of the line before, if both are
of one series.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from infrawatch.ingest.protocols.influx.pieces import Pieces, gather, half_width, to_rows
from infrawatch.ingest.series.layouts import KEY_BYTES, POINTER_BYTES
from infrawatch.model.samples import Int64s, Positions
from infrawatch.store.columns.ragged import Runs


class _Group(NamedTuple):
    """Series with prefixes of similar length: which lines are theirs, and how they begin.

    The lines of each series follow one another, from `firsts` of these lines on.
    """

    lines: Positions | slice
    firsts: Positions
    width: int
    heads: bytes
    tails: bytes

    def begin(self, text: bytes, starts: Positions, ends: Positions) -> bool:
        """Whether each of these lines begins with its prefix; in each, there is room for it."""
        return self._are(self.heads, gather(text, starts[self.lines], self.width)) and self._are(
            self.tails, gather(text, ends[self.lines] - self.width, self.width)
        )

    def _are(self, parts: bytes, found: Pieces) -> bool:
        """Whether first lines have the part of their series, and others that of the line before."""
        if len(self.firsts) == len(found):
            return parts.startswith(found.data)  # of equal length, so this compares them
        rows = to_rows(found)
        differ = rows[1:] != rows[:-1]
        differ[self.firsts[1:] - 1] = False
        return parts.startswith(found[self.firsts].data) and not differ.any()


@dataclass(frozen=True, slots=True)
class LineLayout:
    """The lines of a body without their numbers: each begins with the prefix of its series.

    Series n has the key `keys[n]`, and `counts[n]` lines, which begin with its prefix.
    """

    keys: Sequence[bytes]
    ids: Int64s
    counts: Positions
    lengths: Positions
    groups: Sequence[_Group]

    @classmethod
    def of(cls, keys: Sequence[bytes], end: bytes, counts: Positions, ids: Int64s) -> Self:
        """Create a layout whose prefixes consist of the key of their series and `end`."""
        prefixes = [key + end for key in keys]
        lengths = np.fromiter(map(len, prefixes), np.intp, len(prefixes))
        return cls(keys, ids, counts, lengths, list(_to_groups(prefixes, counts)))

    def find_ends(self, text: bytes, starts: Positions, ends: Positions) -> Positions | None:
        """Return where the prefix of each line ends; None if a line begins differently."""
        found = starts + np.repeat(self.lengths, self.counts)
        if (found > ends).any():
            return None
        is_each = all(group.begin(text, starts, found) for group in self.groups)
        return found if is_each else None

    @property
    def held_bytes(self) -> int:
        keys = sum(KEY_BYTES + 3 * len(key) for key in self.keys)
        lines = POINTER_BYTES * int(self.counts.sum())
        return keys + lines + self.ids.nbytes + 3 * self.counts.nbytes


def _to_groups(prefixes: Sequence[bytes], counts: Positions) -> Iterator[_Group]:
    """Divide series into groups in which the longest prefix is at most twice the shortest."""
    series_of = np.repeat(np.arange(len(prefixes)), counts)
    left = sorted(range(len(prefixes)), key=lambda n: len(prefixes[n]))
    while left:
        max_length = 2 * len(prefixes[left[0]])
        count = bisect_right(left, max_length, key=lambda n: len(prefixes[n]))
        members, left = sorted(left[:count]), left[count:]
        lengths = [len(prefixes[n]) for n in members]
        width = half_width(min(lengths), max(lengths))
        is_all = len(members) == len(prefixes)
        yield _Group(
            slice(None) if is_all else np.flatnonzero(np.isin(series_of, members)),
            Runs.of(counts[members]).starts,
            width,
            b"".join([prefixes[n][:width] for n in members]),
            b"".join([prefixes[n][-width:] for n in members]),
        )

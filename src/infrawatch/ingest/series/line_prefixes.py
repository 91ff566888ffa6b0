"""Text bodies whose lines begin like those of an earlier body: all are compared at once.

A prefix is compared by two parts of the same length, its head and its tail, which overlap if it is
shorter than both together. So prefixes of different lengths are gathered from a text by two
operations, and compared by one more.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.series.layouts import KEY_BYTES
from infrawatch.model.samples import Int64s, Positions

_POINTER_BYTES = 8

Parts = NDArray[np.void]


class _Group(NamedTuple):
    """Series with prefixes of similar length: which lines are theirs, and how they begin."""

    lines: Positions | slice
    counts: Positions
    width: int
    heads: Parts
    tails: Parts

    def begin(self, text: bytes, starts: Positions, ends: Positions) -> bool:
        """Whether each of these lines begins with its prefix; in each, there is room for it."""
        every = np.ndarray(
            len(text) - self.width + 1, np.dtype((np.void, self.width)), text, strides=1
        )
        return self._are(self.heads, every[starts[self.lines]]) and self._are(
            self.tails, every[ends[self.lines] - self.width]
        )

    def _are(self, parts: Parts, found: Parts) -> bool:
        expected = parts if len(parts) == len(found) else np.repeat(parts, self.counts)
        return not (found.view(np.uint8) != expected.view(np.uint8)).any()


@dataclass(frozen=True, slots=True)
class LinePrefixes:
    """The prefixes of the lines of a body, and their series.

    Series n has the key `keys[n]`, and `counts[n]` lines, which begin with its prefix.
    """

    keys: Sequence[bytes]
    ids: Int64s
    counts: Positions
    lengths: Positions
    groups: Sequence[_Group]

    @classmethod
    def of(cls, keys: Sequence[bytes], end: bytes, counts: Positions, ids: Int64s) -> Self:
        """Create prefixes that consist of the key of their series and `end`."""
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
        lines = _POINTER_BYTES * int(self.counts.sum())
        return keys + lines + self.ids.nbytes + 3 * self.counts.nbytes


def _to_groups(prefixes: Sequence[bytes], counts: Positions) -> Iterator[_Group]:
    """Divide series into groups in which the longest prefix is at most twice the shortest."""
    series_of = np.repeat(np.arange(len(prefixes)), counts)
    left = sorted(range(len(prefixes)), key=lambda n: len(prefixes[n]))
    while left:
        most = 2 * len(prefixes[left[0]])
        count = bisect_right(left, most, key=lambda n: len(prefixes[n]))
        members, left = sorted(left[:count]), left[count:]
        width = (max(len(prefixes[n]) for n in members) + 1) // 2
        is_all = len(members) == len(prefixes)
        yield _Group(
            slice(None) if is_all else np.flatnonzero(np.isin(series_of, members)),
            counts[members],
            width,
            _to_parts([prefixes[n][:width] for n in members], width),
            _to_parts([prefixes[n][-width:] for n in members], width),
        )


def _to_parts(texts: Sequence[bytes], width: int) -> Parts:
    return np.frombuffer(b"".join(texts), np.dtype((np.void, width)))

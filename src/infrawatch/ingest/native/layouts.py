"""Batches whose series begin like those of an earlier batch: only the numbers are read.

Agents send the same series in the same order every time. So there is no need to find the end of a
descriptor, nor to look up its series: either each series begins like the one at its position did,
or the body is decoded from scratch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from infrawatch.ingest.series.layouts import KEY_BYTES, POINTER_BYTES
from infrawatch.model.samples import Int64s


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """The series of a batch without their samples: each begins with its prefix."""

    prefixes: Sequence[bytes]
    joined_bytes: int
    keys: Sequence[bytes]
    ids: Int64s

    @classmethod
    def of(cls, keys: Sequence[bytes], end: bytes, ids: Int64s) -> Self:
        """Create a layout whose prefixes consist of the key of their series and `end`."""
        prefixes = [key + end for key in keys]
        return cls(prefixes, sum(map(len, prefixes)), keys, ids)

    def stripped(self, series: Sequence[bytes]) -> list[bytes] | None:
        """Strip the series of their prefixes; None if one begins differently."""
        rests = list(map(bytes.removeprefix, series, self.prefixes))  # leaves others unchanged
        is_each = sum(map(len, series)) == self.joined_bytes + sum(map(len, rests))
        return rests if is_each else None

    @property
    def held_bytes(self) -> int:
        keys = 2 * sum(KEY_BYTES + len(key) for key in self.keys)
        return keys + POINTER_BYTES * len(self.prefixes) + self.ids.nbytes

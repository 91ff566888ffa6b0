"""Text bodies whose pieces begin like those of an earlier body: only the numbers are read.

A piece is a line of line protocol, or a series of a JSON batch: the name of a series, followed by
numbers. Agents send the same series in the same order every time. So there is no need to find the
end of a name, nor to look up its series: either each piece begins like the one at its position did,
or the body is decoded from scratch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from infrawatch.ingest.series.cache import KeySpace
from infrawatch.ingest.series.layouts import KEY_BYTES, Layout, LayoutCache, LayoutKey
from infrawatch.model.samples import Int64s

_POINTER_BYTES = 8
_FEWEST = 16
"""Fewer pieces are decoded from scratch as fast as they are compared."""

L = TypeVar("L", bound=Layout)


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The prefixes of the pieces of a body, each of another series."""

    prefixes: Sequence[bytes]
    joined_bytes: int
    keys: Sequence[bytes]
    ids: Int64s

    @classmethod
    def of(cls, keys: Sequence[bytes], end: bytes, ids: Int64s) -> Self:
        """Create prefixes that consist of the key of their series and `end`."""
        prefixes = [key + end for key in keys]
        return cls(prefixes, sum(map(len, prefixes)), keys, ids)

    def stripped(self, pieces: Sequence[bytes]) -> list[bytes] | None:
        """Strip the pieces of their prefixes; None if a piece begins differently."""
        rests = list(map(bytes.removeprefix, pieces, self.prefixes))  # leaves others unchanged
        is_each = sum(map(len, pieces)) == self.joined_bytes + sum(map(len, rests))
        return rests if is_each else None

    @property
    def held_bytes(self) -> int:
        keys = 2 * sum(KEY_BYTES + len(key) for key in self.keys)
        return keys + _POINTER_BYTES * len(self.prefixes) + self.ids.nbytes


class KnownPrefixes:
    """The prefixes that the senders of one tenant and format repeat."""

    def __init__(self, layouts: LayoutCache, space: KeySpace) -> None:
        self._layouts = layouts
        self._space = space

    def find(self, pieces: int, first: bytes, kind: type[L]) -> L | None:
        """Return the prefixes of an earlier body by its number of pieces and its first key."""
        return self._layouts.find(self._key(pieces, first), kind)

    def learn(
        self,
        pieces: int,
        first: bytes,
        to_layout: Callable[[Int64s], Layout],
        ids: Int64s,
        *,
        are_new: bool,
    ) -> None:
        """Remember the prefixes of a body decoded from scratch, if similar bodies recur."""
        key = self._key(pieces, first)
        if pieces >= _FEWEST and self._layouts.should_learn(key, are_new=are_new):
            self._layouts.add(key, to_layout(ids))

    def _key(self, pieces: int, first: bytes) -> LayoutKey:
        return self._space, pieces, first

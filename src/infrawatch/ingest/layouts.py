"""Bodies like one before them: agents send the same series again and again, in the same order.

Where a format writes numbers in a fixed number of bytes, such bodies differ in these bytes alone.
So one comparison tells that every series is the one it was, and the rest is a look at the numbers.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.samples import Int64s
from infrawatch.store.ragged import Bools, Positions

_MAX_SEEN = 10_000
"""Places whose bodies are counted, at some 500 bytes each."""

_KEY_BYTES = 100
"""What a key takes beside its own bytes, which are those of the body."""

Place = Hashable
"""Where to look for the layout of a body: the tenant and format, and whatever else tells bodies
apart but their numbers."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All of a body but its numbers: bytes that are `constant` where `mask` is set.

    Sample n ends before byte `ends[n]`, and `has_value` tells which of them bring a value.
    """

    mask: NDArray[np.uint8]
    constant: bytes
    keys: Sequence[bytes]
    ids: Int64s
    counts: Positions
    ends: Positions
    has_value: Bools

    def fits(self, body: bytes) -> bool:
        """Whether a body of the same length is the same but for its numbers."""
        return (np.frombuffer(body, np.uint8) & self.mask).tobytes() == self.constant

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes."""
        arrays = (self.mask, self.ids, self.counts, self.ends, self.has_value)
        texts = 2 * len(self.constant) + _KEY_BYTES * len(self.keys)
        return texts + sum(array.nbytes for array in arrays)


class Layouts:
    """Layouts by place, bounded in bytes: what was not used longest goes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._layouts: OrderedDict[Place, Layout] = OrderedDict()
        self._seen: OrderedDict[Place, int] = OrderedDict()

    def find(self, place: Place) -> Layout | None:
        """The layout of the last body at that place."""
        layout = self._layouts.get(place)
        if layout is not None:
            self._layouts.move_to_end(place)
        return layout

    def is_worth_it(self, place: Place) -> bool:
        """Whether to make a layout of a body: when its like comes the 2nd, 3rd, 5th, 9th... time.

        Some senders cut their requests anew each time: these would fill memory with what never
        comes again. Others send what has no layout: these are not asked every time.
        """
        before = self._seen.pop(place, 0)
        self._seen[place] = before + 1
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return before > 0 and before & (before - 1) == 0

    def add(self, place: Place, layout: Layout) -> None:
        """Remember a layout, in place of the one that was there."""
        before = self._layouts.pop(place, None)
        self._layouts[place] = layout
        self._held_bytes += layout.held_bytes - (before.held_bytes if before else 0)
        while self._held_bytes > self._max_bytes:
            self._held_bytes -= self._layouts.popitem(last=False)[1].held_bytes

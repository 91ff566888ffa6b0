"""Bodies like one before them: agents send the same series again and again, in the same order.

What a decoder found out about a body, beside its numbers, is its layout. Where the next one fits
it, every series is the one it was, and the rest is a look at the numbers. How that is told is for
each format to say; here is the memory that they share.
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Protocol, TypeVar

_MAX_SEEN = 10_000
"""Places whose bodies are counted, at some 500 bytes each."""

KEY_BYTES = 100
"""What a key takes in memory beside its own bytes."""

Place = Hashable
"""Where to look for the layout of a body: the tenant and format, and whatever else tells bodies
apart but their numbers."""


class Layout(Protocol):
    """All of a body but its numbers."""

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes."""


L = TypeVar("L", bound=Layout)


class Layouts:
    """Layouts by place, bounded in bytes: what was not used longest goes.

    Large bodies are read in threads, so all of it is behind a lock.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._layouts: OrderedDict[Place, Layout] = OrderedDict()
        self._seen: OrderedDict[Place, int] = OrderedDict()
        self._lock = Lock()

    def find(self, place: Place, kind: type[L]) -> L | None:
        """The layout of the last body at that place; None if there is none of that kind."""
        with self._lock:
            layout = self._layouts.get(place)
            if not isinstance(layout, kind):
                return None
            self._layouts.move_to_end(place)
            return layout

    def is_worth_it(self, place: Place) -> bool:
        """Whether to make a layout of a body: when its like comes the 2nd, 3rd, 5th, 9th... time.

        Some senders cut their requests anew each time: these would fill memory with what never
        comes again. Others send what has no layout: these are not asked every time.
        """
        with self._lock:
            before = self._seen.pop(place, 0)
            self._seen[place] = before + 1
            if len(self._seen) > _MAX_SEEN:
                self._seen.popitem(last=False)
            return before > 0 and before & (before - 1) == 0

    def add(self, place: Place, layout: Layout) -> None:
        """Remember a layout, in place of the one that was there."""
        with self._lock:
            before = self._layouts.pop(place, None)
            self._layouts[place] = layout
            self._held_bytes += layout.held_bytes - (before.held_bytes if before else 0)
            while self._held_bytes > self._max_bytes:
                self._held_bytes -= self._layouts.popitem(last=False)[1].held_bytes

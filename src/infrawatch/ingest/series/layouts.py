"""Layouts of earlier bodies: agents send the same series again and again, in the same order.

A layout is everything that a decoder learned about a body except its numbers. If the next body
matches it, all series are the same and only the numbers have to be read. Each format defines how to
match; this module is the cache that the formats share.
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Protocol, TypeVar

_MAX_SEEN = 10_000
"""Maximum number of keys whose bodies are counted, at about 500 bytes each."""

KEY_BYTES = 100
"""Memory overhead of a key, in addition to its own bytes."""

LayoutKey = Hashable
"""The cache key of a layout: the tenant, the format, and anything else but numbers that tells
bodies apart."""


class Layout(Protocol):
    """Everything in a body except its numbers."""

    @property
    def held_bytes(self) -> int:
        """Approximate memory use."""


L = TypeVar("L", bound=Layout)


class LayoutCache:
    """LRU cache of layouts, bounded in bytes.

    Large bodies are read in threads, so every access takes a lock.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._layouts: OrderedDict[LayoutKey, Layout] = OrderedDict()
        self._seen: OrderedDict[LayoutKey, int] = OrderedDict()
        self._lock = Lock()

    def find(self, key: LayoutKey, kind: type[L]) -> L | None:
        """Return the last layout added for a key; None if there is none of that kind."""
        with self._lock:
            layout = self._layouts.get(key)
            if not isinstance(layout, kind):
                return None
            self._layouts.move_to_end(key)
            return layout

    def should_learn(self, key: LayoutKey, *, are_new: bool) -> bool:
        """Whether to create a layout for a body: true the 2nd, 3rd, 5th, 9th... time with its key.

        Some senders split their requests differently each time and would fill the cache with
        layouts that never recur. For bodies that have no layout, it is not attempted every time.

        True the first time, too, if the series of the body `are_new`: its sender has just started,
        and creating the series took twenty times as long as a layout does.
        """
        with self._lock:
            before = self._seen.pop(key, 0)
            self._seen[key] = before + 1
            if len(self._seen) > _MAX_SEEN:
                self._seen.popitem(last=False)
            return (are_new or before > 0) and before & (before - 1) == 0

    def add(self, key: LayoutKey, layout: Layout) -> None:
        """Cache a layout, replacing the previous one of its key."""
        with self._lock:
            before = self._layouts.pop(key, None)
            self._layouts[key] = layout
            self._held_bytes += layout.held_bytes - (before.held_bytes if before else 0)
            while self._held_bytes > self._max_bytes:
                self._held_bytes -= self._layouts.popitem(last=False)[1].held_bytes

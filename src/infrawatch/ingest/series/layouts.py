"""Layouts of earlier bodies: agents send the same series again and again, in the same order.

A layout is everything that a decoder learned about a body except its numbers. If the next body
matches it, all series are the same and only the numbers have to be read. This module is the cache
that the formats share; the `layouts` module of a format defines how its bodies are matched.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Protocol, TypeVar

from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.model.samples import Int64s

_MAX_SEEN = 10_000
"""Maximum number of keys whose bodies are counted, at about 500 bytes each."""

FEWEST_PIECES = 16
"""Text bodies of fewer lines or series are decoded from scratch as fast as they are compared."""

KEY_BYTES = 100
"""Memory overhead of a key, in addition to its own bytes."""

POINTER_BYTES = 8

_Key = tuple[KeySpace, Hashable]
"""The tenant, the format, and the signature."""


class Layout(Protocol):
    """Everything in a body except its numbers."""

    @property
    def held_bytes(self) -> int:
        """Approximate memory use."""


L = TypeVar("L", bound=Layout)


class LayoutCache:
    """LRU cache of all layouts, bounded in bytes.

    Large bodies are read in threads, so every access takes a lock.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._layouts: OrderedDict[_Key, Layout] = OrderedDict()
        self._seen: OrderedDict[_Key, int] = OrderedDict()
        self._lock = Lock()

    def find(self, key: _Key, kind: type[L]) -> L | None:
        """Return the last layout added for a key; None if there is none of that kind."""
        with self._lock:
            layout = self._layouts.get(key)
            if not isinstance(layout, kind):
                return None
            self._layouts.move_to_end(key)
            return layout

    def should_learn(self, key: _Key, *, are_new: bool) -> bool:
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

    def add(self, key: _Key, layout: Layout) -> None:
        """Cache a layout, replacing the previous one of its key."""
        with self._lock:
            before = self._layouts.pop(key, None)
            self._layouts[key] = layout
            self._held_bytes += layout.held_bytes - (before.held_bytes if before else 0)
            while self._held_bytes > self._max_bytes:
                self._held_bytes -= self._layouts.popitem(last=False)[1].held_bytes


class Layouts:
    """The layouts of one tenant and format.

    A body is found by its signature: a part that is cheap to read, recurs in the next body, and
    usually differs for other series.
    """

    def __init__(self, cache: LayoutCache, space: KeySpace) -> None:
        self._cache = cache
        self._space = space

    def find(self, signature: Hashable, kind: type[L]) -> L | None:
        """Return the layout of an earlier body with this signature."""
        return self._cache.find((self._space, signature), kind)

    def learn(
        self,
        signature: Hashable,
        to_layout: Callable[[Int64s], Layout | None],
        ids: Int64s,
        *,
        are_new: bool,
    ) -> None:
        """Remember the layout of a body decoded from scratch, if similar bodies recur."""
        key = self._space, signature
        if not self._cache.should_learn(key, are_new=are_new):
            return
        layout = to_layout(ids)
        if layout is not None:
            self._cache.add(key, layout)

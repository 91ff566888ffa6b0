"""Saying the same thing once a minute, not once a batch."""

from collections.abc import Hashable
from time import monotonic

_PAUSE_S = 60.0


class OncePerMinute:
    """True when something has not been said within the last minute; asking counts as saying."""

    def __init__(self) -> None:
        self._said: dict[Hashable, float] = {}

    def __call__(self, what: Hashable) -> bool:
        now = monotonic()
        if now - self._said.get(what, -_PAUSE_S) < _PAUSE_S:
            return False
        self._said[what] = now
        return True

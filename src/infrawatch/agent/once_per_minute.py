"""Limits repeated log messages to one per minute."""

from collections.abc import Hashable
from time import monotonic

_PAUSE_S = 60.0


class OncePerMinute:
    """Called with a key, returns True at most once a minute for that key."""

    def __init__(self) -> None:
        self._logged_at: dict[Hashable, float] = {}

    def __call__(self, what: Hashable) -> bool:
        now = monotonic()
        if now - self._logged_at.get(what, -_PAUSE_S) < _PAUSE_S:
            return False
        self._logged_at[what] = now
        return True

"""Mailboxes: what waits for one subscription, bounded in updates and in samples."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from infrawatch.live.update import Update, folded

MAX_UPDATES = 1_000
"""A viewer this many groups behind is a minute behind; a snapshot is cheaper than catching up."""

MAX_SAMPLES = 200_000
"""About five megabytes, and seconds of sending; likewise."""

Delivery = Literal["lossless", "latest"]
Reason = Literal["slow_viewer", "replay_window_passed", "other_database", "journal_lost"]


class Mailbox:
    """Takes updates without ever making the giver wait.

    When it is full, `lossless` empties it and notes that something is lost; `latest` folds what
    waits into the newest sample of each series.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._waiting: list[Update] = []
        self._samples = 0
        self._arrived = asyncio.Event()
        self._lost: Reason | None = None

    def put(self, update: Update) -> None:
        if self._lost is not None:
            return
        self._waiting.append(update)
        self._samples += len(update.columns)
        if len(self._waiting) > MAX_UPDATES or self._samples > MAX_SAMPLES:
            self._make_room()
        self._arrived.set()

    def lose(self, reason: Reason) -> None:
        """Note that something is missing from here on; nothing is kept until `restart`."""
        self._waiting.clear()
        self._lost = reason
        self._arrived.set()

    async def wait(self) -> Reason | None:
        """Return when something waits, or with the reason when something was lost."""
        await self._arrived.wait()
        return self._lost

    def take(self) -> Sequence[Update]:
        """Everything that waits, in order."""
        waiting, self._waiting = self._waiting, []
        self._samples = 0
        if self._lost is None:
            self._arrived.clear()
        return waiting

    @property
    def is_empty(self) -> bool:
        return not self._waiting and self._lost is None

    def restart(self) -> None:
        """Keep what comes from now on: whoever reads it takes a new snapshot afterwards."""
        self._lost = None
        self.take()

    def _make_room(self) -> None:
        if self._delivery == "lossless":
            self.lose("slow_viewer")
            return
        self._waiting = [folded(self._waiting)]
        self._samples = len(self._waiting[0].columns)

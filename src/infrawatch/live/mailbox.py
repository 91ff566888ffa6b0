"""Mailboxes: the updates waiting for one subscription, bounded in number and in samples."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from infrawatch.live.update import Update, folded, joined

MAX_UPDATES = 1_000
"""More are joined into one: each costs a kilobyte, however few samples it has."""

MAX_SAMPLES = 200_000
"""About five megabytes, and seconds of sending; a snapshot is cheaper than catching up."""

SHARED_UPDATES = 16
"""Older updates are detached, so that they do not keep samples of other topics in memory."""

Delivery = Literal["lossless", "latest"]
Reason = Literal["slow_viewer", "replay_window_passed", "other_database", "journal_lost"]


class Mailbox:
    """Takes updates without ever blocking the publisher.

    When it holds too many samples, `lossless` empties it and records the loss; `latest` folds the
    waiting updates into the newest sample of each series.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._waiting: list[Update] = []
        self._samples = 0
        self._arrived = asyncio.Event()
        self._lost: Reason | None = None
        self._is_closed = False

    def put(self, update: Update) -> None:
        if not self.is_whole:
            return
        self._waiting.append(update)
        self._samples += len(update.part)
        if len(self._waiting) > SHARED_UPDATES:
            self._waiting[-SHARED_UPDATES - 1].detach()
        if self._samples > MAX_SAMPLES or len(self._waiting) > MAX_UPDATES:
            self._make_room()
        self._arrived.set()

    def lose(self, reason: Reason) -> None:
        """Record that updates are lost; nothing is kept until `restart`."""
        self._empty()
        self._lost = reason
        self._arrived.set()

    def close(self) -> None:
        """Discard waiting updates and take no more: the viewer has left, or the server stops."""
        self._empty()
        self._is_closed = True
        self._arrived.set()

    async def wait(self) -> None:
        """Return when an update waits, updates are lost, or the mailbox is closed."""
        await self._arrived.wait()

    def take(self) -> Sequence[Update]:
        """Remove and return the waiting updates, in order."""
        if self.is_whole:
            self._arrived.clear()
        return self._empty()

    def restart(self) -> Reason | None:
        """Keep updates from now on; the caller reads a new snapshot afterwards.

        Returns the reason recorded by `lose`, if any.
        """
        lost, self._lost = self._lost, None
        self.take()
        return lost

    @property
    def is_empty(self) -> bool:
        return not self._waiting and self._lost is None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost and more updates may come."""
        return self._lost is None and not self._is_closed

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def _make_room(self) -> None:
        if self._delivery == "latest":
            self._waiting = [folded(self._waiting)]
            self._samples = len(self._waiting[0].part)
        elif self._samples > MAX_SAMPLES:
            self.lose("slow_viewer")
        else:
            self._waiting = [joined(self._waiting)]

    def _empty(self) -> list[Update]:
        waiting, self._waiting = self._waiting, []
        self._samples = 0
        return waiting

"""The options of a subscription."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from infrawatch.live.mailbox import Delivery
from infrawatch.model.cursor import Cursor
from infrawatch.model.selector import Selector


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """A parsed `subscribe` frame or SSE request."""

    id: str
    tenant_id: int
    selector: Selector
    since: str | None = None
    resume: Cursor | None = None
    every: timedelta | None = None
    delivery: Delivery = "lossless"
    heartbeat: timedelta | None = None
    """After this long without updates the subscription itself sends a heartbeat."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """A connection's snapshots are read and sent one at a time: otherwise a connection with a
    hundred subscriptions would take every read slot, and memory for a hundred snapshots."""

"""What a viewer asked for."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from infrawatch.live.mailbox import Delivery
from infrawatch.model.cursor import Cursor
from infrawatch.model.selector import Selector


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """A `subscribe` frame, or an SSE request, understood."""

    id: str
    tenant_id: int
    selector: Selector
    since: str | None = None
    resume: Cursor | None = None
    every: timedelta | None = None
    delivery: Delivery = "lossless"
    heartbeat: timedelta | None = None
    """After so long without news the subscription itself says that there are none."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """A connection's snapshots are read and sent one after the other: else one of a hundred
    subscriptions would take all the places to read, and memory for a hundred of them."""

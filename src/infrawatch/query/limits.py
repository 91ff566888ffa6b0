"""What a query is run for, and the limits on what it may read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic

from infrawatch.access.limits.limiter import UNLIMITED, Budget
from infrawatch.errors import DeadlineExceeded
from infrawatch.model.cursor import Cursor


@dataclass(frozen=True, slots=True)
class QueryContext:
    """The tenant and budget of a query, and the write that must be visible before it runs.

    `timeout` is how long the client waits for the answer, from `began` on.
    """

    tenant_id: int
    wait_for: Cursor | None = None
    budget: Budget = UNLIMITED
    timeout: timedelta | None = None
    began: float = field(default_factory=monotonic)


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits on what one query may read, and how long it may take.

    `timeout` is the client's, if that is the reason for the deadline.
    """

    series: int
    samples: int
    deadline: timedelta
    timeout: timedelta | None = None

    def within(self, context: QueryContext) -> "ReadLimits":
        """These limits, or those of a query where they are tighter; its deadline is from now."""
        budget = context.budget
        limits = replace(
            self,
            series=min(self.series, budget.series or self.series),
            samples=min(self.samples, budget.samples or self.samples),
        )
        if context.timeout is None or context.timeout >= self.deadline:
            return limits
        left = context.timeout - timedelta(seconds=monotonic() - context.began)
        return replace(limits, deadline=max(left, timedelta(0)), timeout=context.timeout)

    @property
    def deadline_name(self) -> str:
        """The deadline, as error messages call it."""
        if self.timeout is not None:
            return f"the query's timeout ({self.timeout.total_seconds():g} s)"
        return f"INFRAWATCH_READ_DEADLINE ({self.deadline.total_seconds():g} s)"


@asynccontextmanager
async def holding_slot(slots: asyncio.Semaphore, limits: ReadLimits) -> AsyncGenerator[None, None]:
    """Hold one of a few slots for the duration of the block.

    Raises:
        DeadlineExceeded: the others left no room until the deadline.
    """
    try:
        async with asyncio.timeout(limits.deadline.total_seconds()):
            await slots.acquire()
    except TimeoutError:
        raise deadline_exceeded("other large queries are not answered", limits) from None
    try:
        yield
    finally:
        slots.release()


def deadline_exceeded(what: str, limits: ReadLimits) -> DeadlineExceeded:
    """The error of a query that missed its deadline; `what` says what did not happen in time."""
    return DeadlineExceeded(f"{what} within {limits.deadline_name}: ask for less, or try again")

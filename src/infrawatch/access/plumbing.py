"""How a process tells who is asking: the ways in, and the gate that asks them."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Self

from infrawatch.access.gate import Authenticator, Gate, Open
from infrawatch.access.keyring import KeyRing
from infrawatch.access.limiter import Limiter
from infrawatch.access.refusals import Refusals
from infrawatch.access.tickets import Tickets
from infrawatch.store.database import Database
from infrawatch.telemetry import Telemetry


class Access:
    """What routes find in the state of the process. `runs` are its endless tasks; all are vital.

    Another way to become a principal is one more authenticator in `ways`.
    """

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        *,
        is_required: bool,
        are_metrics_open: bool,
        redis_url: str | None,
    ) -> None:
        key_ring = KeyRing(database)
        self.database = database
        self.tickets = Tickets(database)
        ways: Sequence[Authenticator] = (self.tickets, key_ring)
        self.limiter = Limiter(database, redis_url)
        self.gate = Gate(ways if is_required else (Open(),), Refusals(telemetry), self.limiter)
        self.are_metrics_open = are_metrics_open
        self.runs: Sequence[Callable[[], Coroutine[object, object, None]]] = (
            *self.limiter.runs,
            *((key_ring.run,) if is_required else ()),
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        telemetry: Telemetry,
        *,
        is_required: bool,
        are_metrics_open: bool,
        redis_url: str | None,
    ) -> AsyncGenerator[Self, None]:
        """Open it on two connections of its own: queries may use all of theirs for a while."""
        async with Database.open(url, write_pool_size=1, read_pool_size=1) as database:
            access = cls(
                database,
                telemetry,
                is_required=is_required,
                are_metrics_open=are_metrics_open,
                redis_url=redis_url,
            )
            await access.limiter.book.read()  # the first request is held to them, too
            yield access

"""Long work runs in a few threads, so that the event loop keeps serving other requests."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from infrawatch.errors import Overloaded
from infrawatch.ingest.scheduling.loop_budget import BlocksLoop, Read
from infrawatch.ingest.scheduling.low_priority import PAUSE_FACTOR

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 2
"""All threads share one interpreter lock: each can make the loop wait another 5 ms for it."""

MAX_WAITING = 32
"""Maximum per tenant. Each waiting body is in memory, with up to 64 MiB."""

_FLOODED_BYTES = 64 * 1024
"""Larger bodies of a flooded tenant are always read in a thread: most of their series are refused,
which does not justify blocking the loop for more than about two milliseconds."""

_MAX_PAUSE_S = 0.1


class _Tenant:
    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0


class Offload:
    """Runs work that would block the loop in threads; refuses it at once if too much waits.

    A tenant uses one thread at a time: two would hardly read its bodies faster, and would leave
    none to others. Waiting tenants take turns; a flooded tenant pauses between its turns.
    """

    def __init__(self, is_flooded: Callable[[int], bool]) -> None:
        self._is_flooded = is_flooded
        self._free = asyncio.Semaphore(THREADS)
        self._tenants: defaultdict[int, _Tenant] = defaultdict(_Tenant)

    async def run(
        self, tenant_id: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work in a thread.

        Raises:
            Overloaded: too much work of the tenant waits already; nothing was done.
        """
        tenant = self._tenants[tenant_id]
        await self._have_turn(tenant)

        loop = asyncio.get_running_loop()
        started_s = loop.time()

        def free(_done: object) -> None:
            self._free.release()
            pause_s = (
                PAUSE_FACTOR * (loop.time() - started_s) if self._is_flooded(tenant_id) else 0.0
            )
            loop.call_later(min(pause_s, _MAX_PAUSE_S), tenant.turn.release)

        working = loop.run_in_executor(None, partial(work, *args, **kwargs))
        # A thread continues if its caller is cancelled, and is not free before it ends.
        working.add_done_callback(free)
        return await asyncio.shield(working)

    async def read(self, tenant_id: int, read: Read[T], body: bytes) -> T:
        """Read a body: on the loop if that does not take long, else in a thread.

        Raises:
            Overloaded: too much work of the tenant waits already; nothing was done.
        """
        if not (len(body) > _FLOODED_BYTES and self._is_flooded(tenant_id)):
            with suppress(BlocksLoop):
                return read(body, on_loop=True)
        return await self.run(tenant_id, read, body)

    async def _have_turn(self, tenant: _Tenant) -> None:
        if tenant.waiting >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} large bodies wait to be read; send it again later")
        tenant.waiting += 1
        try:
            await tenant.turn.acquire()
            try:
                await self._free.acquire()
            except asyncio.CancelledError:
                tenant.turn.release()
                raise
        finally:
            tenant.waiting -= 1

"""What takes long is done in threads, a few at a time, so that everybody else is served too."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from infrawatch.errors import Overloaded
from infrawatch.ingest.loop_budget import BlocksLoop, Read
from infrawatch.ingest.low_priority import RESTS

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 2
"""All of them share one interpreter lock: each lets the loop wait another 5 ms for it, at times."""

MOST_WAITING = 32
"""Of one tenant. Each has a body in memory, of up to 64 MiB."""

_FLOODED_BYTES = 64 * 1024
"""Most of what a flooded tenant sends is refused: more than about two milliseconds of reading for
that are not for everybody to wait for."""

_LONGEST_REST_S = 0.1


class _Tenant:
    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0


class Offload:
    """Runs what would hold up the loop; when too much waits, it says so at once.

    A tenant has one thread at a time: two would read what it sends hardly faster, and leave none to
    others. Those that wait have theirs in turn; of a flooded tenant, after a rest.
    """

    def __init__(self, is_flooded: Callable[[int], bool]) -> None:
        self._is_flooded = is_flooded
        self._free = asyncio.Semaphore(THREADS)
        self._tenants: defaultdict[int, _Tenant] = defaultdict(_Tenant)

    async def run(
        self, tenant_id: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do work in a thread.

        Raises:
            Overloaded: too much of the tenant waits already; nothing was done.
        """
        tenant = self._tenants[tenant_id]
        await self._have_turn(tenant)

        loop = asyncio.get_running_loop()
        started_s = loop.time()

        def free(_done: object) -> None:
            self._free.release()
            rest_s = RESTS * (loop.time() - started_s) if self._is_flooded(tenant_id) else 0.0
            loop.call_later(min(rest_s, _LONGEST_REST_S), tenant.turn.release)

        working = loop.run_in_executor(None, partial(work, *args, **kwargs))
        # A thread goes on when nobody waits for it any more, and is not free before its end.
        working.add_done_callback(free)
        return await asyncio.shield(working)

    async def read(self, tenant_id: int, read: Read[T], body: bytes) -> T:
        """Read a body: here if that does not take long, else in a thread.

        Raises:
            Overloaded: too much of the tenant waits already; nothing was done.
        """
        if not (len(body) > _FLOODED_BYTES and self._is_flooded(tenant_id)):
            with suppress(BlocksLoop):
                return read(body, on_loop=True)
        return await self.run(tenant_id, read, body)

    async def _have_turn(self, tenant: _Tenant) -> None:
        if tenant.waiting >= MOST_WAITING:
            raise Overloaded(f"{MOST_WAITING} large bodies wait to be read; send it again later")
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

"""What takes long is done in threads, a few at a time, so that everybody else is served too."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from infrawatch.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 2
"""All of them share one interpreter lock: each lets the loop wait another 5 ms for it, at times."""

MOST_WAITING = 32
"""Each has a body in memory, of up to 64 MiB."""


class Apart:
    """Runs what would hold up the loop; when too much waits, it says so at once."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(THREADS)
        self._waiting = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in a thread.

        Raises:
            Overloaded: too much waits already; nothing was done.
        """
        if self._waiting >= MOST_WAITING:
            raise Overloaded(f"{MOST_WAITING} large bodies wait to be read; send it again later")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(None, partial(work, *args, **kwargs))
        # A thread goes on when nobody waits for it any more, and is not free before its end.
        working.add_done_callback(lambda _done: self._free.release())
        return await asyncio.shield(working)

    async def decode(
        self,
        decode: Callable[Concatenate[bytes, P], T],
        limit_bytes: int,
        body: bytes,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Decode a body: here if it is no larger than the limit, else in a thread.

        Raises:
            Overloaded: too much waits already; nothing was done.
        """
        if len(body) > limit_bytes:
            return await self.run(decode, body, *args, **kwargs)
        return decode(body, *args, **kwargs)

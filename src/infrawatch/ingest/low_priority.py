"""Work that can wait: done on the loop a piece at a time, with a rest for everybody else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic

RESTS = 3
"""For how many times as long as a piece took nothing more is done: a quarter of a core in all."""

LONGEST_REST_S = 0.02
"""A piece that took long had to wait itself: for the database, or for others."""

PATIENCE_S = 2.0
"""So long does a batch rest in all. However large, it is to be answered within the deadline."""


class LowPriority:
    """One batch's work, in pieces of a millisecond or two, which nobody notices.

    Of all batches that share a `turn` one piece is done at a time. A thread instead would get as
    much of the interpreter as all others together, and hold up the loop whenever it comes back
    from sending or receiving.
    """

    def __init__(self, turn: asyncio.Lock) -> None:
        self._turn = turn
        self._left_s = PATIENCE_S

    @asynccontextmanager
    async def piece(self) -> AsyncGenerator[None, None]:
        """Do a piece when its turn has come; leaving the block takes until the rest is over."""
        async with self._turn:
            started = monotonic()
            yield
            rest_s = min(RESTS * (monotonic() - started), LONGEST_REST_S, self._left_s)
            self._left_s -= rest_s
            await asyncio.sleep(rest_s)

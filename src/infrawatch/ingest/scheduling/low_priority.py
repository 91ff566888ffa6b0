"""Low-priority work on the event loop, in small pieces with pauses for all other work."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic

PAUSE_FACTOR = 9
"""Length of a pause as a multiple of the piece before it: about a tenth of a core in all."""

MAX_PAUSE_S = 0.02
"""Maximum pause: a piece that took longer mostly waited for the database or for other work."""

MAX_TOTAL_PAUSE_S = 2.0
"""Maximum total of a batch's pauses, so that even a large batch is answered by its deadline."""


class LowPriority:
    """The work of one batch, in pieces of a millisecond or two, too short to be noticed.

    All batches that share a `turn` run one piece at a time. A thread instead would get as much of
    the interpreter as everything else together, and would delay the loop whenever the loop returns
    from sending or receiving.
    """

    def __init__(self, turn: asyncio.Lock) -> None:
        self._turn = turn
        self._left_s = MAX_TOTAL_PAUSE_S

    @asynccontextmanager
    async def piece(self) -> AsyncGenerator[None, None]:
        """Run a piece when it is its turn; leaving the block waits for the end of the pause."""
        async with self._turn:
            started = monotonic()
            yield
            pause_s = min(PAUSE_FACTOR * (monotonic() - started), MAX_PAUSE_S, self._left_s)
            self._left_s -= pause_s
            await asyncio.sleep(pause_s)

"""Senders by the clock: a request begins when it is due, whether or not others are answered.

That is what many agents are to a server. It reads no more of HTTP than driver.py does.
"""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from urllib.parse import urlsplit

from typing_extensions import override

from benchmarks.driver import is_complete, to_head
from benchmarks.encodings import NativeJson
from benchmarks.workload import W1, Workload

SAMPLES = W1.series
"""Of one batch: each of its series has one."""

_TICK_S = 0.002
_PATIENCE_S = 60
_SOMETIME_MS = 1_000_000_000_000
"""Stands in the bodies where the time of sending comes."""


@dataclass(slots=True)
class Tally:
    """What became of the batches that were due; `skipped` ones found every sender waiting."""

    accepted: int = 0
    refused: int = 0
    skipped: int = 0
    wrong: list[bytes] = field(default_factory=list)
    seconds: float = 0.0
    drained_s: float = 0.0
    """From the last batch that was due to the last answer."""

    @property
    def goodput(self) -> float:
        """Batches acknowledged a second."""
        return self.accepted / (self.seconds + self.drained_s)

    @property
    def offered(self) -> float:
        """Batches that were due a second."""
        return (self.accepted + self.refused + self.skipped + len(self.wrong)) / self.seconds


class Bodies:
    """Batches that tell of this second: the same series each time their turn comes."""

    def __init__(self, *, hosts: int) -> None:
        workload = Workload.generate(hosts=hosts, rounds=1, end_ms=_SOMETIME_MS)
        times = [[_SOMETIME_MS]] * len(workload.names)
        timeless = Workload(workload.names, times, workload.values)
        self._templates = [one.body for one in timeless.batches(W1, NativeJson())]
        self._made = [(0, template) for template in self._templates]
        self._turn = 0

    def next(self) -> bytes:
        """The next batch in turn."""
        self._turn = turn = (self._turn + 1) % len(self._templates)
        second = time.time_ns() // 1_000_000_000
        made, body = self._made[turn]
        if made != second:
            body = self._templates[turn].replace(b"%d" % _SOMETIME_MS, b"%d000" % second)
            self._made[turn] = second, body
        return body


async def press(
    url: str, bodies: Bodies, *, senders: int, seconds: float, rate: float | None = None
) -> Tally:
    """Send so many batches a second, or without a rate each sender its next when it is answered.

    Raises:
        TimeoutError: it stopped answering.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    tally = Tally()
    free: list[_Sender] = []
    loop = asyncio.get_running_loop()
    make = partial(_Sender, to_head(url, NativeJson.headers), tally, free)
    every = [
        (await loop.create_connection(make, address.hostname, address.port or 80))[1]
        for _ in range(senders)
    ]
    try:
        await _send_by_the_clock(tally, free, bodies, seconds=seconds, rate=rate)
        ended = monotonic()
        async with asyncio.timeout(_PATIENCE_S):
            while any(one.is_busy for one in every):  # noqa: ASYNC110  # as often as the clock ticks
                await asyncio.sleep(_TICK_S)
        tally.drained_s = monotonic() - ended
    finally:
        for one in every:
            one.close()
    return tally


async def _send_by_the_clock(
    tally: Tally, free: list["_Sender"], bodies: Bodies, *, seconds: float, rate: float | None
) -> None:
    began, done = monotonic(), 0
    while (now := monotonic()) < began + seconds:
        due = len(free) if rate is None else int((now - began) * rate) - done
        sent = min(due, len(free))
        for _ in range(sent):
            free.pop().send(bodies.next())
        done += due
        tally.skipped += due - sent
        await asyncio.sleep(_TICK_S)
    tally.seconds = monotonic() - began


class _Sender(asyncio.Protocol):
    """One connection, that goes back among the free ones once it is answered."""

    def __init__(self, head: bytes, tally: Tally, free: list["_Sender"]) -> None:
        self._head = head
        self._tally = tally
        self._free = free
        self._received = b""
        self.is_busy = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._free.append(self)

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        if is_complete(self._received):
            self._note(self._received)
            self._received = b""
            self.is_busy = False
            self._free.append(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Servers close connections that have nothing to ask; others do so during a request."""
        if self.is_busy:
            self.is_busy = False
            self._tally.wrong.append(b"the server hung up: " + repr(exc).encode())
        elif self in self._free:
            self._free.remove(self)

    def send(self, body: bytes) -> None:
        self.is_busy = True
        self._transport.writelines((self._head, b"%d\r\n\r\n" % len(body), body))

    def close(self) -> None:
        self._transport.close()

    def _note(self, answer: bytes) -> None:
        if answer.startswith(b"HTTP/1.1 200 "):
            self._tally.accepted += 1
        elif answer.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: " in answer.lower():
            self._tally.refused += 1
        else:
            self._tally.wrong.append(answer)

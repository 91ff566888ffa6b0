"""Eight agents that send again until they are acknowledged, and how long they had to."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, product
from random import Random
from time import monotonic, time_ns

import httpx
from chaos.ledger import PATIENCE_S, Key, Ledger

from infrawatch.client.connection import Client
from infrawatch.client.series import Sample, Series
from infrawatch.errors import ServerUnavailable
from infrawatch.model.timerange import from_us

AGENTS = 8
HOSTS = 3
SAMPLES = 4
MAX_PAUSE_S = 0.03
RETRY_S = 0.1
"""Agents wait for longer, but then we would measure that."""

BACK_MS = 3 * 3_600_000
"""The first samples are so old, so that there is something to merge and to roll up."""

TIMEOUT = timedelta(seconds=30)


class Agent:
    """Sends samples of its own hosts through the Python client, in batches with a correction."""

    def __init__(self, ledger: Ledger, name: str, urls: Sequence[str], chance: Random) -> None:
        self._ledger = ledger
        self._urls = urls
        self._chance = chance
        self._hosts = [f"{name}-{number}" for number in range(HOSTS)]
        self._times = count(time_ns() // 1_000_000 - BACK_MS)
        self._corrected: Key | None = None
        self.asked_at = 0.0
        """When the last request began that was acknowledged."""

    async def run(self, enough: asyncio.Event) -> None:
        """Send until there is enough; the last batch is acknowledged, too."""
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client(url)) for url in self._urls]
            while not enough.is_set():
                batch = dict(self._samples())
                await self._push(clients, [self._to_series(host, batch) for host in self._hosts])
                self._ledger.acknowledged |= batch
                await asyncio.sleep(self._chance.uniform(0, MAX_PAUSE_S))

    async def _push(self, clients: list[Client], batch: Sequence[Series]) -> None:
        """Ask one server after the other until one has taken it."""
        while True:
            asked_at = monotonic()
            try:
                await clients[0].push(batch)
            except ServerUnavailable:
                clients.append(clients.pop(0))
                await asyncio.sleep(self._chance.uniform(RETRY_S / 2, RETRY_S))
            else:
                self.asked_at = asked_at
                return

    def _samples(self) -> Iterator[tuple[Key, float]]:
        """New ones, and another value for one that was sent before."""
        if self._corrected is not None:
            yield self._corrected, self._chance.uniform(0, 100)
        for host, _ in product(self._hosts, range(SAMPLES)):
            self._corrected = (host, next(self._times))
            yield self._corrected, round(self._chance.uniform(0, 100), 1)

    def _to_series(self, host: str, batch: dict[Key, float]) -> Series:
        samples = [
            Sample(from_us(at_ms * 1000), value)
            for (of, at_ms), value in batch.items()
            if of == host
        ]
        return Series(self._ledger.metric, {"host": host}, samples)

    def _client(self, url: str) -> Client:
        async def note(answer: httpx.Response) -> None:
            self._ledger.statuses[answer.status_code] += 1

        client = Client(url, timeout=TIMEOUT)
        client._http.event_hooks = {"response": [note]}
        return client


@dataclass(slots=True)
class Load:
    """Agents at work."""

    ledger: Ledger
    agents: Sequence[Agent]
    recoveries_s: list[float] = field(default_factory=list)

    async def recover(self, since: float | None = None) -> None:
        """Wait until every agent is acknowledged again, and note how long that took.

        Only requests that began after the fault (`since`; now, if it is over now) are proof.
        """
        began_at = monotonic() if since is None else since
        await self.until_all_are_acknowledged(began_at)
        self.recoveries_s.append(monotonic() - began_at)

    async def until_all_are_acknowledged(self, since: float) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while any(agent.asked_at < since for agent in self.agents):  # noqa: ASYNC110  # no events
                await asyncio.sleep(0.02)


@asynccontextmanager
async def sending(metric: str, *urls: str) -> AsyncGenerator[Load, None]:
    """Let agents send to these servers until the block ends and all they sent is acknowledged."""
    ledger = Ledger(metric)
    agents = [Agent(ledger, f"{metric}-{number}", urls, Random(number)) for number in range(AGENTS)]
    load = Load(ledger, agents)
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for agent in agents:
            tasks.create_task(agent.run(enough))
        await load.until_all_are_acknowledged(monotonic())
        yield load
        enough.set()

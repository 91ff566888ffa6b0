"""kill -9 in the middle of everything, again and again; what is left is what was acknowledged."""

import asyncio
import os
import re
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import TypeVar

import httpx
import psutil
from sqlalchemy import TextClause, text

from infrawatch.embedded.postgres import Postgres, postgres_running
from infrawatch.errors import Unavailable
from infrawatch.store.database import Database
from infrawatch.store.migrations import upgrade

RESTLESS = Path(__file__).with_name("busy_upkeep_server.py")
SENDERS = 3
HOSTS = 8
STEP_MS = 5_000
SPAN_MS = 6 * 3_600_000
PATIENCE_S = 180

_STORED = text("""
SELECT labels ->> 'host', (extract(epoch FROM at) * 1000)::bigint, value FROM samples
""")
_ROLLED_UP = text("SELECT coalesce(sum(count), 0) FROM rollup_5m")
_CLOSED = text("SELECT count(*) FROM chunks")

Samples = dict[tuple[str, int], float]
"""Value by host and time in ms."""

T = TypeVar("T")


async def crash_again_and_again(directory: Path, rounds: int, seed: int) -> int:
    """Kill the server or its PostgreSQL while it takes samples and compacts, and check each time.

    Senders repeat a batch until it is acknowledged, as agents do; so after each round exactly what
    they have sent must be there, with the value that was sent last. Gives how many samples.
    """
    chance = Random(seed)
    sent: Samples = {}
    async with postgres_running(directory) as postgres:
        url = postgres.endpoint.url()
        await upgrade(url)
        async with Victim.running(url) as victim, Database.open(url) as database:
            senders = [
                Sender(victim, f"s{number}", Random(seed + number)) for number in range(SENDERS)
            ]
            for number in range(rounds):
                await _one_round(senders, _crash(chance, victim, postgres), chance)
                sent = {key: value for one in senders for key, value in one.acknowledged.items()}
                for find in (partial(_find_by_api, victim), partial(_find_by_sql, database)):
                    found = await _succeeding(find)
                    # What is wrong says more than two dictionaries of thousands would.
                    missing = sorted(sent.items() - found.items())[:5]
                    unexpected = sorted(found.items() - sent.items())[:5]
                    assert (missing, unexpected) == ([], []), (
                        f"{find.func.__name__} in round {number} of seed {seed}: "
                        f"missing {missing}, unexpected {unexpected}"
                    )
                rolled_up = await _succeeding(partial(_count, database, _ROLLED_UP))
                assert rolled_up == len(sent), f"round {number} of seed {seed}"
            await _succeeding(partial(_some_are_closed, database))
    return len(sent)


class Victim:
    """The server; `url` changes whenever it is started again."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def running(cls, database_url: str) -> AsyncGenerator["Victim", None]:
        victim = cls(database_url)
        await victim.start()
        try:
            yield victim
        finally:
            await victim.kill()

    async def start(self) -> None:
        self._process: Process = await asyncio.create_subprocess_exec(
            *(sys.executable, RESTLESS, "serve", "--port", "0"),
            env={
                **os.environ,
                "INFRAWATCH_DATABASE_URL": self._database_url,
                "INFRAWATCH_REPLAY_WINDOW": "2s",
                "INFRAWATCH_LOG_LEVEL": "error",
            },
            stdout=PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        address = re.search(rb"http://\S+", line)
        assert address is not None, line
        self.url = address[0].decode().replace("localhost", "127.0.0.1")

    async def kill(self) -> None:
        assert self._process.returncode is None, "the process has exited by itself"
        self._process.kill()
        await self._process.wait()


class Sender:
    """Sends samples of its own hosts, many of them late, some of them corrections."""

    def __init__(self, victim: Victim, name: str, chance: Random) -> None:
        self._victim = victim
        self._hosts = [f"{name}-{number}" for number in range(HOSTS)]
        self._chance = chance
        self.acknowledged: Samples = {}

    async def send_until(self, enough: asyncio.Event) -> None:
        # A request that is given up may be stored later than what is sent after it.
        async with httpx.AsyncClient(timeout=None) as client, asyncio.timeout(PATIENCE_S):
            while not enough.is_set():
                batch = dict(self._samples())
                body = {"series": [_to_series(host, batch) for host in self._hosts]}
                await _succeeding(partial(self._push, client, body))
                self.acknowledged |= batch

    async def _push(self, client: httpx.AsyncClient, body: object) -> None:
        _accept(await client.post(f"{self._victim.url}/v1/samples", json=body))

    def _samples(self) -> Iterator[tuple[tuple[str, int], float]]:
        now_ms = time.time_ns() // 1_000_000 // STEP_MS * STEP_MS
        for host in self._hosts:
            back_ms = self._chance.choice((0, 0, SPAN_MS))
            for place in range(self._chance.randrange(1, 8)):
                time_ms = now_ms - self._chance.randrange(back_ms + 1) // STEP_MS * STEP_MS
                value = round(self._chance.uniform(0, 100), self._chance.randrange(4))
                yield (host, time_ms - place * STEP_MS), value


async def _one_round(
    senders: list[Sender], crash: Callable[[], Awaitable[None]], chance: Random
) -> None:
    """Crash at a random moment; ends when everybody's last batch is acknowledged."""
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for sender in senders:
            tasks.create_task(sender.send_until(enough))
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        await crash()
        enough.set()


def _crash(chance: Random, victim: Victim, postgres: Postgres) -> Callable[[], Awaitable[None]]:
    async def server() -> None:
        await victim.kill()
        await victim.start()

    async def postmaster() -> None:
        os.kill(_postmaster(postgres), SIGKILL)

    async def backend() -> None:
        """PostgreSQL takes all others down with it, and recovers."""
        os.kill(chance.choice(psutil.Process(_postmaster(postgres)).children()).pid, SIGKILL)

    return chance.choice((server, postmaster, backend))


def _postmaster(postgres: Postgres) -> int:
    return int((postgres.home.cluster / "postmaster.pid").read_text("utf-8").split()[0])


def _to_series(host: str, batch: Samples) -> dict[str, object]:
    samples = [[at, value] for (of, at), value in batch.items() if of == host]
    return {"metric": "crashed", "labels": {"host": host}, "samples": samples}


async def _succeeding(attempt: Callable[[], Awaitable[T]]) -> T:
    """Retry while the server is unavailable: what was killed is restarting."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(httpx.TransportError, Unavailable):
                return await attempt()
            await asyncio.sleep(0.01)


def _accept(answer: httpx.Response) -> None:
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unavailable(answer.text)
    assert answer.status_code == httpx.codes.OK, answer.text


async def _find_by_api(victim: Victim) -> Samples:
    async with httpx.AsyncClient(timeout=30) as client:
        wanted = {"match": "crashed", "start": "0", "end": "now"}
        answer = await client.get(f"{victim.url}/v1/samples", params=wanted)
        _accept(answer)
    return {
        (one["labels"]["host"], at): value
        for one in answer.json()["series"]
        for at, value in one["samples"]
    }


async def _find_by_sql(database: Database) -> Samples:
    async with database.reading() as connection:
        rows = await connection.execute(_STORED)
        return {(host, at_ms): value for host, at_ms, value in rows}


async def _some_are_closed(database: Database) -> None:
    """Crashes may have left it no time before."""
    if await _count(database, _CLOSED) == 0:
        raise Unavailable("no window is closed yet")


async def _count(database: Database, statement: TextClause) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(statement)).scalar_one())

"""Whoever works beside the server is killed or hangs: the host agent, and Redis."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from gzip import compress
from pathlib import Path
from random import Random
from time import monotonic, time_ns

import psutil
from chaos.ledger import PATIENCE_S, Key, Ledger
from chaos.load import BACK_MS, Load, sending
from chaos.servers import Server
from chaos.world import Outcome, World
from sqlalchemy import text

from infrawatch.agent.batches import Body
from infrawatch.agent.spool import Spool
from infrawatch.client.connection import Client
from infrawatch.embedded.valkey import valkey_running
from infrawatch.model.timerange import to_us

SPOOL_BYTES = 256 * 1024 * 1024
SPOOLED_SAMPLES = 10
HANGING_S = 1.0

_COUNT = text("SELECT count(*) FROM samples WHERE metric = :metric")


async def kill_the_agent(world: World, rounds: int, *, batches: int) -> Outcome:
    """SIGKILL while it empties a full spool, again and again; then it may finish."""
    chance = Random(batches)
    load = Load(Ledger("spooled"), [])
    spool = world.directory / "spool"
    await asyncio.to_thread(_fill, spool, load.ledger, batches)
    every = batches * SPOOLED_SAMPLES
    async with Server.running(world.url) as server:
        kills, stored = 0, 0
        while kills < rounds and stored < every:
            began_at = monotonic()
            async with _agent(server.url, spool):
                await _until(partial(_are_stored, world, load.ledger.metric, stored + 1))
                load.recoveries_s.append(monotonic() - began_at)
                await asyncio.sleep(chance.uniform(0, 0.1))
            kills += 1
            stored = await _count(world, load.ledger.metric)
        async with _agent(server.url, spool):
            await _until(partial(_are_stored, world, load.ledger.metric, every))
        return await Outcome.of(load, world, server.url, rounds=kills)


async def take_redis_away(world: World, rounds: int) -> Outcome:
    """It hangs, and is killed; who looks at one server sees what another commits all the same."""
    async with (
        valkey_running(world.directory / "redis") as redis_url,
        Server.running(world.url, INFRAWATCH_REDIS_URL=redis_url) as taking,
        Server.running(world.url, INFRAWATCH_REDIS_URL=redis_url) as showing,
        asyncio.TaskGroup() as tasks,
    ):
        seen: dict[Key, float | None] = {}
        watching = tasks.create_task(_watch(showing.url, "redisless", seen))
        async with sending("redisless", taking.url) as load:
            for _ in range(rounds):
                began_at = monotonic()
                redis = _redis()
                redis.suspend()
                try:
                    await load.recover(began_at)
                    await asyncio.sleep(HANGING_S)
                finally:
                    redis.kill()
                await load.recover()
        acknowledged = load.ledger.acknowledged
        await _until(partial(_is_all, seen, acknowledged))
        watching.cancel()
        outcome = await Outcome.of(load, world, taking.url, rounds=rounds)
        outcome.found.missing += sum(seen.get(key) != value for key, value in acknowledged.items())
        return outcome


def _fill(directory: Path, ledger: Ledger, batches: int) -> None:
    """Spool batches as an agent does that was away, each of one host's samples."""
    spool = Spool.open(directory, limit_bytes=SPOOL_BYTES)
    try:
        spool.add(_batches(ledger, batches))
    finally:
        spool.close()


def _batches(ledger: Ledger, batches: int) -> Iterator[Body]:
    start_ms = time_ns() // 1_000_000 - BACK_MS
    for number in range(batches):
        host = f"spooled-{number % 50}"
        times = range(
            start_ms + number * SPOOLED_SAMPLES, start_ms + (number + 1) * SPOOLED_SAMPLES
        )
        samples = [(at_ms, at_ms % 1000 / 10) for at_ms in times]
        ledger.acknowledged |= {(host, at_ms): value for at_ms, value in samples}
        series = {"metric": ledger.metric, "labels": {"host": host}, "samples": samples}
        yield Body(len(samples), compress(json.dumps({"series": [series]}).encode(), 1))


@asynccontextmanager
async def _agent(url: str, spool: Path) -> AsyncGenerator[Process, None]:
    """The host agent; when the block ends it is killed, whatever it does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "agent"),
        *("--url", url, "--spool-dir", str(spool)),
        stderr=DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _count(world: World, metric: str) -> int:
    async with world.database.reading() as connection:
        counted = await connection.execute(_COUNT, {"metric": metric})
        return int(counted.scalar_one())


async def _are_stored(world: World, metric: str, samples: int) -> bool:
    return await _count(world, metric) >= samples


async def _is_all(seen: dict[Key, float | None], acknowledged: dict[Key, float]) -> bool:
    return seen == acknowledged


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for as long as we are patient; what is not there then, the audit tells."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():  # noqa: ASYNC110  # what is waited for knows no events
                await asyncio.sleep(0.02)


async def _watch(url: str, metric: str, seen: dict[Key, float | None]) -> None:
    async with Client(url) as client:
        async for update in client.live(metric, since="-1d"):
            if update.is_snapshot:
                seen.clear()
            for one in update.series:
                host = one.labels["host"]
                seen |= {(host, to_us(at) // 1000): value for at, value in one.samples}


def _redis() -> psutil.Process:
    """The one we started; it may be about to be started again."""
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        children = psutil.Process().children(recursive=True)
        found = [one for one in children if one.name() == "valkey-server"]
        if found:
            return found[0]
    raise TimeoutError("there is no Redis")

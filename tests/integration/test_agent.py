"""The agent against a real server, and against none for an hour."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from time import monotonic

from httpx import AsyncClient
from scripted_server import eventually
from spooling import closed_spools  # noqa: F401  # used by every test

from infrawatch.agent.batches import Encoder
from infrawatch.agent.collect import Collection, host_collectors
from infrawatch.agent.loop import AgentOptions, run
from infrawatch.agent.readings import Reading, gauge
from infrawatch.agent.send import Sender
from infrawatch.agent.spool import Loss, Spool
from infrawatch.client.connection import Client
from infrawatch.client.series import Sample
from infrawatch.model.timerange import now_us

MIB = 1024 * 1024
WITHIN_S = 50
"""Agents that are processes take most of it to start where many tests share a core."""

LOAD = gauge("node_load1", "1m load average.")


async def test_this_machine_can_be_queried_under_node_exporters_names(
    server: str, client: AsyncClient, tmp_path: Path
) -> None:
    options = AgentOptions(url=server, spool_dir=tmp_path, interval=timedelta(milliseconds=200))
    async with asyncio.TaskGroup() as tasks:
        agent = tasks.create_task(run(options))
        await until_stored(server, "up", at_least=3)
        agent.cancel()

    metrics = (await client.get("/v1/labels/__name__/values")).json()["values"]
    assert sum(metric["value"].startswith("node_") for metric in metrics) >= 40
    metadata = (await client.get("/v1/metadata")).json()["metadata"]
    assert metadata["node_cpu_seconds_total"]["type"] == "counter"
    assert metadata["node_cpu_seconds_total"]["unit"] == "seconds"
    assert metadata["node_load1"]["help"] == "1m load average."
    refused = await stored(server, "infrawatch_agent_refused_samples_total")
    assert not refused, "the server accepts all samples of the agent"


async def test_an_hour_without_the_server_loses_nothing(server: str, tmp_path: Path) -> None:
    passes = 720
    encoder, collection = Encoder({"instance": "a"}), Collection(host_collectors())
    readings = collection.run()
    now_ms = now_us() // 1000
    spool = Spool.open(tmp_path, limit_bytes=64 * MIB)
    for number in range(passes):
        time_ms = now_ms - 5000 * (passes - number)
        spool.add(encoder.encode([*readings, Reading(LOAD, number)], time_ms=time_ms))

    started = monotonic()
    async with sending(spool, server):
        await eventually(lambda: spool.usage.batches == 0, within_s=60)
    seconds = monotonic() - started
    assert not spool.lost_samples
    spool.close()

    for metric in ("up", "node_time_seconds"):
        samples = await stored(server, metric, start="-2h")
        assert len(samples) == passes
        assert {later.at - earlier.at for earlier, later in pairwise(samples)} == {
            timedelta(seconds=5)
        }
    assert seconds < 30, "the backlog of an hour takes less than half a minute"


async def test_an_agent_killed_during_an_outage_of_the_server_loses_nothing(
    server: str, tmp_path: Path
) -> None:
    with socket.socket() as nobody:  # listens to nothing, and keeps the port from other tests
        nobody.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with agent_process(gone, tmp_path) as process:
            await eventually(lambda: spooled_bytes(tmp_path) > MIB // 4, within_s=WITHIN_S)
            process.kill()
            await process.wait()

    spool = Spool.open(tmp_path, limit_bytes=64 * MIB)
    before = spool.usage.batches
    spool.close()
    assert before >= 5

    async with agent_process(server, tmp_path) as process:
        await until_stored(server, "up", at_least=before + 3)
        process.terminate()
        assert await process.wait() == 0


async def test_a_refused_sample_costs_only_itself(server: str, tmp_path: Path) -> None:
    encoder = Encoder({"instance": "a"})
    now = datetime.now(UTC).replace(microsecond=0)
    times = [now - timedelta(days=400), *(now - timedelta(seconds=age) for age in (3, 2, 1))]
    spool = Spool.open(tmp_path, limit_bytes=MIB)
    for number, time in enumerate(times):
        time_ms = round(time.timestamp() * 1000)
        spool.add(encoder.encode([Reading(LOAD, number)], time_ms=time_ms))
    async with sending(spool, server):
        await eventually(lambda: spool.usage.batches == 0)

    assert spool.lost_samples == {Loss("refused", "too_old"): 1}
    spool.close()
    assert await stored(server, "node_load1") == [
        Sample(time, number) for number, time in enumerate(times) if number
    ]


async def stored(server: str, metric: str, *, start: str = "-10m") -> list[Sample]:
    async with Client(server) as client:
        found = await client.query(metric, start=start)
    return [Sample(*sample) for series in found for sample in series.samples]


async def until_stored(server: str, metric: str, *, at_least: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while len(await stored(server, metric)) < at_least:  # noqa: ASYNC110  # see scripted_server
            await asyncio.sleep(0.05)


@asynccontextmanager
async def sending(spool: Spool, url: str) -> AsyncGenerator[None, None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Sender(spool, url=url, key_file=None).run())
        yield
        task.cancel()


@asynccontextmanager
async def agent_process(
    url: str, spool_dir: Path
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "agent", "--url", url),
        *("--interval", "100ms", "--spool-dir", str(spool_dir)),
        cwd=spool_dir.parent,  # away from a developer's .env
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def spooled_bytes(spool_dir: Path) -> int:
    return sum(file.stat().st_size for file in spool_dir.glob("spool.sqlite3*"))

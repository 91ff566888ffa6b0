"""Overload: some requests succeed, the others must retry, and no queue grows."""

import asyncio
import gzip
import json
from collections import Counter
from time import monotonic

from httpx import AsyncClient, Limits, Response
from pushing import batch, find_count, find_values, now_ms, push, series
from serving_process import serving_process
from stored import locked

from infrawatch.store.database import Database

JSON = {"content-type": "application/json"}
MIB = 1024 * 1024
SENDERS = 150
SAMPLES = 5_000
UNDER_WAY = "infrawatch_under_way_bytes"
REFUSED = "infrawatch_overload_refusals_total"


async def test_under_overload_some_are_served_and_the_others_told_to_retry(
    database_url: str, database: Database
) -> None:
    start = now_ms() - SENDERS * SAMPLES
    bodies = [body_of(start + number * SAMPLES) for number in range(SENDERS)]
    async with (
        serving_process(
            database_url,
            WRITE_BACKLOG_BYTES=str(MIB),
            WRITE_DEADLINE="30s",  # nobody who was let in shall be late, however slow the machine
        ) as server,
        AsyncClient(base_url=server.url, timeout=120, limits=Limits()) as client,
    ):
        assert (await push(client, series("crowded", [start - 1, -1]))).status_code == 200
        server.forget_peak()
        before = server.memory("VmRSS")

        async with asyncio.TaskGroup() as tasks:
            async with locked(database):
                crowd = [
                    tasks.create_task(client.post("/v1/samples", content=body, headers=JSON))
                    for body in bodies
                ]
                await until_some_are_answered(crowd)
            statuses = Counter(answer.status_code for answer in await asyncio.gather(*crowd))

        assert statuses.keys() == {200, 503}, statuses
        for answer in (task.result() for task in crowd):
            if answer.status_code == 503:
                assert answer.json()["code"] == "overloaded"
                assert int(answer.headers["retry-after"]) > 0
        assert server.memory("VmHWM") - before < 200 * MIB
        assert len(await find_values(database, "crowded")) == 1 + statuses[200] * SAMPLES
        assert await find_count(client, REFUSED) == statuses[503]
        assert (await push(client, series("crowded"))).status_code == 200, "the overload is over"
        assert await find_count(client, UNDER_WAY) == 0


async def test_many_compressed_bodies_take_no_more_memory_than_plain_ones(
    database_url: str, database: Database
) -> None:
    body = json.dumps(batch(series("inflated", [now_ms(), 1]))).encode() + b" " * 12 * MIB
    headers = {**JSON, "content-encoding": "gzip"}
    packed = gzip.compress(body)
    async with (
        serving_process(database_url, WRITE_DEADLINE="30s") as server,
        AsyncClient(base_url=server.url, timeout=120, limits=Limits()) as client,
    ):
        assert (await push(client, series("inflated"))).status_code == 200
        server.forget_peak()
        before = server.memory("VmRSS")

        async with asyncio.TaskGroup() as tasks, locked(database):
            crowd = [
                tasks.create_task(client.post("/v1/samples", content=packed, headers=headers))
                for _ in range(60)
            ]
            await until_some_are_answered(crowd)

        assert {task.result().status_code for task in crowd} == {200, 503}
        assert server.memory("VmHWM") - before < 300 * MIB, "all of them are 720"


def body_of(first_ms: int) -> str:
    """A batch of about 100 kB, of as many milliseconds as it has samples."""
    return json.dumps(batch(series("crowded", *([first_ms + n, n] for n in range(SAMPLES)))))


async def until_some_are_answered(crowd: list[asyncio.Task[Response]]) -> None:
    """Nobody is acknowledged meanwhile, so they are refused."""
    deadline = monotonic() + 120
    while not any(task.done() for task in crowd):
        assert monotonic() < deadline
        await asyncio.sleep(0.01)

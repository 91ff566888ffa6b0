"""InfluxData's own client for Python, sending to us while PostgreSQL fails."""

import asyncio
from datetime import timedelta

import pytest
from database_proxy import DatabaseProxy, Road
from httpx import AsyncClient
from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from integration.conftest import serving
from pushing import find_stored, now_ms

from infrawatch.store.database import Database

Row = tuple[dict[str, str], int, float]


def points(count: int) -> list[Point]:
    time = now_ms()
    return [
        Point("room").tag("host", "a, b=c").field("temp", n + 0.1).time(time + n, WritePrecision.MS)
        for n in range(count)
    ]


def rows(count: int, first_us: int) -> list[Row]:
    return [({"host": "a, b=c"}, first_us + 1000 * n, n + 0.1) for n in range(count)]


async def open_when_it_hurt(proxy: DatabaseProxy, client: AsyncClient) -> None:
    """Restore the connection as soon as a sender was told to retry."""
    while 'route="/api/v2/write",status="503"' not in (await client.get("/metrics")).text:
        pass
    proxy.road = Road.OPEN


def send(url: str, batch: list[Point], *, gzip: bool) -> list[Exception]:
    """Send in batches of 100, with the client's own retries; gives what it could not send."""
    failures: list[Exception] = []
    options = WriteOptions(batch_size=100, flush_interval=50, retry_interval=100, jitter_interval=0)

    def fail(_batch: object, _data: object, error: Exception) -> None:
        failures.append(error)

    with (
        InfluxDBClient(url, token="none", org="any", enable_gzip=gzip) as client,
        client.write_api(options, error_callback=fail) as api,
    ):
        for point in batch:
            api.write("any", record=point, write_precision=WritePrecision.MS)
    return failures


@pytest.mark.parametrize("gzip", [False, True])
async def test_a_server_that_answers_503_once_loses_and_doubles_nothing(
    proxy: DatabaseProxy, database: Database, gzip: bool
) -> None:
    sent = points(500)
    first_us = int(str(sent[0]._time)) * 1000
    async with (
        serving(proxy.url, write_deadline=timedelta(seconds=1)) as url,
        AsyncClient(base_url=url, timeout=30) as client,
        asyncio.timeout(30),
        asyncio.TaskGroup() as tasks,
    ):
        proxy.close()
        tasks.create_task(open_when_it_hurt(proxy, client))
        failures = await asyncio.to_thread(send, url, sent, gzip=gzip)

        assert failures == []
        assert await find_stored(database, "room_temp") == rows(500, first_us)


def write_a_string(url: str) -> ApiException:
    with (
        InfluxDBClient(url, token="none", org="any") as client,
        client.write_api(SYNCHRONOUS) as api,
    ):
        assert client.ping()
        batch = [Point("m").field("text", 'a "b"\nc'), Point("m").field("v", 1)]
        with pytest.raises(ApiException) as refused:
            api.write("any", record=batch)
    return refused.value


async def test_a_refusal_is_understood_by_the_influx_client(
    server: str, database: Database
) -> None:
    refused = await asyncio.to_thread(write_a_string, server)

    assert refused.status == 400
    assert "line 1: field text: a string cannot be stored" in refused.message
    assert [value for *_, value in await find_stored(database, "m_v")] == [1.0]

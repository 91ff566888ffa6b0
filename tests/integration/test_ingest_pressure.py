"""Overload of the database, disconnecting senders, and a server that shuts down."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import execute
from httpx import AsyncClient, Response
from integration.conftest import serving
from pushing import batch, find_count, find_values, now_ms, push, series
from serving_process import serving_process
from stored import locked

from infrawatch.store.database import Database

BACKLOG_SAMPLES = 50_000
BACKLOG = "infrawatch_write_backlog_samples"
WRITE_POOL = 'infrawatch_pool_connections{pool="write"}'


@asynccontextmanager
async def pressed(database_url: str, **settings: Any) -> AsyncGenerator[AsyncClient, None]:
    """A client of a server with the smallest backlog there may be."""
    async with (
        serving(database_url, write_backlog_samples=BACKLOG_SAMPLES, **settings) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[AsyncClient]:
    async with pressed(database_url) as client:
        yield client


async def until(client: AsyncClient, name: str, expected: float) -> None:
    """Wait until one of the server's own metrics has a value."""
    deadline = monotonic() + 60
    while (found := await find_count(client, name)) != expected:
        assert monotonic() < deadline, f"{name} is {found}, not {expected}"


def large(metric: str, count: int) -> dict[str, Any]:
    now = now_ms()
    return series(metric, *[[now - place, place] for place in range(count)])


def assert_overloaded(answer: Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.elapsed.total_seconds() < 2, "the deadline is ten seconds"


@pytest.mark.parametrize("hanging", ["writers", "series"])
async def test_a_full_backlog_is_refused_at_once(
    client: AsyncClient, database: Database, hanging: str
) -> None:
    await push(client, series("known"))
    metric = "known" if hanging == "writers" else "unknown"
    async with asyncio.TaskGroup() as tasks:
        async with locked(database, hanging):
            waiting = tasks.create_task(push(client, large(metric, BACKLOG_SAMPLES)))
            await until(client, BACKLOG, BACKLOG_SAMPLES)

            assert_overloaded(await push(client, series("known")))
            assert_overloaded(await push(client, series("another")))
            would_do = await push(client, series("known"), dry_run="true")
            assert would_do.status_code == 200, "a dry run needs no space"
        assert (await waiting).status_code == 200

    assert len(await find_values(database, metric)) >= BACKLOG_SAMPLES
    assert await find_count(client, BACKLOG) == 0
    assert (await push(client, series("known"))).status_code == 200


async def test_batches_that_come_together_are_committed_together(
    database_url: str, database: Database
) -> None:
    """In two groups: the first to come, and those that came while it was committed."""
    async with pressed(database_url, write_deadline=timedelta(seconds=30)) as client:
        await push(client, series("together"))
        async with asyncio.TaskGroup() as tasks, locked(database):
            pushing = [tasks.create_task(push(client, series("together"))) for _ in range(90)]
            await until(client, BACKLOG, len(pushing))
        assert {one.result().status_code for one in pushing} == {200}
    assert execute(database_url, "SELECT sum(last_seq) FROM writers") == "3"


async def test_a_batch_whose_sender_gave_up_is_not_stored_later(
    database_url: str, database: Database
) -> None:
    deadline = timedelta(seconds=3)
    async with pressed(database_url, write_deadline=deadline, write_group_samples=1) as client:
        await push(client, series("first"), series("second"), series("third"))
        before = await find_values(database, "third")
        async with locked(database), asyncio.TaskGroup() as tasks:
            # The second has its turn when the first has failed; then it is too late for the third.
            pushing = []
            for waiting, metric in enumerate(["first", "second", "third"], 1):
                pushing.append(tasks.create_task(push(client, series(metric))))
                await until(client, BACKLOG, waiting)
        assert [one.result().status_code for one in pushing] == [503] * 3
        assert await find_count(client, BACKLOG) == 0

        assert (await push(client, series("first"))).status_code == 200
        assert await find_values(database, "third") == before


async def send_and_leave(url: str, body: bytes, *, cut: int) -> None:
    """Send a request, all of it or without its end, and hang up before the answer."""
    address = urlsplit(url)
    assert address.port is not None
    _, writer = await asyncio.open_connection("127.0.0.1", address.port)
    head = (
        f"POST /v1/samples HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[: len(body) - cut])
    await writer.drain()
    writer.transport.abort()


@pytest.mark.parametrize("cut", [0, 1])
async def test_senders_that_leave_leak_nothing(
    client: AsyncClient, database: Database, cut: int
) -> None:
    url = str(client.base_url)
    now = now_ms()
    assert (await push(client, series("left", [now, 0]))).status_code == 200

    async with locked(database), asyncio.TaskGroup() as tasks:
        for number in range(60):
            name = "left" if number % 2 else f"left_{number}"
            body = json.dumps(batch(series(name, [now, number]))).encode()
            tasks.create_task(send_and_leave(url, body, cut=cut))

    await until(client, BACKLOG, 0)
    await until(client, WRITE_POOL, 0)
    assert (await push(client, series("left", [now, 99]))).status_code == 200
    assert await find_values(database, "left") == {now * 1_000: 99}


async def test_batches_that_wait_at_shutdown_are_committed(
    database_url: str, database: Database
) -> None:
    now = now_ms()
    async with (
        serving_process(database_url) as server,
        AsyncClient(base_url=server.url, timeout=30) as client,
        asyncio.TaskGroup() as tasks,
    ):
        await push(client, series("drained", [now, 0]))
        async with locked(database):
            waiting = [
                tasks.create_task(push(client, series("drained", [now + n, n])))
                for n in range(1, 6)
            ]
            await until(client, BACKLOG, 5)
            server.process.terminate()
            await until_refused(server.url)
        answers = await asyncio.gather(*waiting)
        assert await asyncio.wait_for(server.process.wait(), 20) == 0

    assert [answer.status_code for answer in answers] == [200] * 5
    assert list((await find_values(database, "drained")).values()) == [0, 1, 2, 3, 4, 5]


async def test_a_server_stops_in_time_though_its_database_hangs(
    database_url: str, database: Database
) -> None:
    async with serving_process(database_url, WRITE_DEADLINE="2s", DRAIN_DEADLINE="1s") as server:
        async with AsyncClient(base_url=server.url, timeout=30) as client:
            await push(client, series("hung"))
            async with locked(database), asyncio.TaskGroup() as tasks:
                pushing = tasks.create_task(push(client, series("hung")))
                await until(client, BACKLOG, 1)
                server.process.terminate()
                await asyncio.wait_for(server.process.wait(), 15)

        assert pushing.result().status_code == 503
        assert pushing.result().json()["code"] == "shutting_down"
        assert int(pushing.result().headers["retry-after"]) > 0


async def test_a_server_that_cannot_write_at_all_says_so_and_leaves(database_url: str) -> None:
    async with (
        serving_process(database_url) as server,
        AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        await push(client, series("up"))
        execute(database_url, "DROP TABLE journal CASCADE")

        answer = await push(client, series("up"))

        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        await asyncio.wait_for(server.process.wait(), 20)


async def until_refused(url: str) -> None:
    """Wait until the server has stopped listening."""
    address = urlsplit(url)
    deadline = monotonic() + 60
    with suppress(ConnectionError):
        while True:
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.transport.abort()
            assert monotonic() < deadline

"""Several servers on one database, with Redis between them, and with a Redis that fails."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from serving_live import live_server
from serving_two import details, push_and_see, two_servers, until_bus
from structlog.testing import capture_logs
from viewing import metric, now_ms, push, until, viewing

from infrawatch.embedded.valkey import valkey_running
from infrawatch.live import bus


@pytest.fixture
async def redis_url(data_dir: Path) -> AsyncIterator[str]:
    async with valkey_running(data_dir) as url:
        yield url


@pytest.mark.parametrize("has_redis", [False, True])
async def test_a_viewer_of_one_server_sees_what_another_committed(
    database_url: str, has_redis: bool, request: pytest.FixtureRequest
) -> None:
    redis_url = None
    async with AsyncExitStack() as stack:
        if has_redis:
            home = request.getfixturevalue("temporary_root") / "shared-redis"
            redis_url = await stack.enter_async_context(valkey_running(home))
        servers = await stack.enter_async_context(two_servers(database_url, redis_url))
        viewer = await stack.enter_async_context(viewing(servers[0]))
        picture = await viewer.subscribe("m")
        await push_and_see(servers, viewer, picture, range(20))
        assert picture.values() == [*range(0, 20, 2), *range(1, 20, 2)]
        assert picture.gaps == []
        assert await metric(servers[0], "infrawatch_live_lag_seconds") < 5
        assert re.fullmatch(r"\d+\.\d{3} s behind", (await details(servers[0]))["live"])


async def test_with_redis_viewers_do_not_wait_for_the_poll(
    database_url: str, redis_url: str
) -> None:
    now = now_ms()
    async with two_servers(database_url, redis_url) as servers, viewing(servers[0]) as viewer:
        picture = await viewer.subscribe("m")
        await until_bus(servers[0], "connected")
        loop = asyncio.get_running_loop()
        waits = []
        for number in range(10):
            await push(servers[1], "m", [(now + number, number)])
            committed = loop.time()
            await viewer.until_there_are(picture, number + 1)
            waits.append(loop.time() - committed)
    assert sorted(waits)[5] < 0.2  # the poll comes once a second


async def test_redis_that_hangs_or_dies_and_comes_back_costs_no_sample(
    database_url: str, redis_url: str
) -> None:
    def process() -> psutil.Process:
        [found] = [
            child
            for child in psutil.Process().children(recursive=True)
            if child.name() == "valkey-server"
        ]
        return found

    async with two_servers(database_url, redis_url) as servers, viewing(servers[0]) as viewer:
        picture = await viewer.subscribe("m")
        await until_bus(servers[0], "connected")
        await push_and_see(servers, viewer, picture, range(10))

        hung = process()
        hung.suspend()
        try:
            await push_and_see(servers, viewer, picture, range(10, 20))
            await until_bus(servers[0], "does not answer")
            await push_and_see(servers, viewer, picture, range(20, 30))
        finally:
            hung.resume()
        await until_bus(servers[0], "connected")
        await push_and_see(servers, viewer, picture, range(30, 40))

        os.kill(hung.pid, signal.SIGKILL)
        await push_and_see(servers, viewer, picture, range(40, 50))
        await until_bus(servers[0], "connected")  # its keeper has started it again
        await push_and_see(servers, viewer, picture, range(50, 60))

    assert sorted(picture.values()) == list(range(60))
    assert picture.gaps == []


async def test_entries_lost_by_redis_come_from_the_journal(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = iter([False, True, True, False, False, True] * 20)
    deliver = bus.unpack

    def losing(packed: object) -> object:
        if next(lost):
            raise ValueError("lost")
        return deliver(packed)

    monkeypatch.setattr(bus, "unpack", losing)
    async with two_servers(database_url, redis_url) as servers, viewing(servers[0]) as viewer:
        picture = await viewer.subscribe("m")
        await until_bus(servers[0], "connected")
        await push_and_see(servers, viewer, picture, range(30))
    assert sorted(picture.values()) == list(range(30))
    assert picture.gaps == []


async def test_the_log_reports_once_why_redis_cannot_be_used(
    database_url: str, redis_url: str
) -> None:
    wrong = re.sub(r":[^:@]+@", ":wrong@", redis_url)
    with capture_logs() as lines:
        async with live_server(database_url, redis_url=wrong) as url, viewing(url) as viewer:
            await viewer.subscribe("m")

            async def has_tried_again() -> bool:
                return await metric(url, "infrawatch_bus_errors_total") >= 3

            await until(has_tried_again)

    [lost] = [line for line in lines if line["event"] == "bus_lost"]
    assert "password" in lost["reason"]


async def test_invalid_messages_on_the_bus_are_counted_and_ignored(
    database_url: str, redis_url: str
) -> None:
    async with two_servers(database_url, redis_url) as servers, viewing(servers[0]) as viewer:
        picture = await viewer.subscribe("m")
        await until_bus(servers[0], "connected")
        async with Redis.from_url(redis_url) as redis:
            [channel] = await redis.pubsub_channels()
            for nonsense in ("", "x" * 100, b"\xff" * 56):
                await redis.publish(channel, nonsense)
        await push_and_see(servers, viewer, picture, range(4))
        assert await metric(servers[0], "infrawatch_bus_errors_total") == 3


async def test_without_viewers_nobody_listens(database_url: str, redis_url: str) -> None:
    async with two_servers(database_url, redis_url) as servers, Redis.from_url(redis_url) as redis:

        async def nobody_listens() -> bool:
            return await redis.pubsub_channels() == []

        for url in servers:
            await push(url, "m", [(now_ms(), -1)])
        assert await nobody_listens()
        async with viewing(servers[0]) as viewer:
            picture = await viewer.subscribe("m")
            await until_bus(servers[0], "connected")
            [channel] = await redis.pubsub_channels()
            assert await redis.pubsub_numsub(channel) == [(channel, 1)]
            await push_and_see(servers, viewer, picture, range(4))
        await until(nobody_listens)
        await until_bus(servers[0], "nobody watches")

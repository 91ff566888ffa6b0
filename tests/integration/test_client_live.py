"""Following live with the client, and `infrawatch watch`."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta

import pytest
from conftest import execute
from serving_live import live_server
from viewing import DEADLINE_S, now_ms, push

from infrawatch.client.connection import Client
from infrawatch.client.live import LiveUpdate
from infrawatch.errors import RequestRefused, ServerUnavailable
from infrawatch.model.timerange import to_us


async def take(updates: AsyncGenerator[LiveUpdate, None]) -> LiveUpdate:
    return await asyncio.wait_for(anext(updates), DEADLINE_S)


def values(update: LiveUpdate) -> list[float | None]:
    return [value for series in update.series for _, value in series.samples]


async def test_it_begins_with_a_snapshot_and_continues_with_every_commit(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url) as url, Client(url) as client:
        await push(url, "m", [(now, 1)], instance="a")
        async with aclosing(client.live("m")) as updates:
            snapshot = await take(updates)
            await push(url, "m", [(now + 1, 2)], instance="b")
            update = await take(updates)

    assert (snapshot.is_snapshot, snapshot.gap, values(snapshot)) == (True, None, [1])
    assert (update.is_snapshot, update.gap, values(update)) == (False, None, [2])
    [series] = update.series
    assert (series.metric, series.labels) == ("m", {"instance": "b"})
    assert to_us(series.samples[0][0]) == (now + 1) * 1000


async def test_the_client_chooses_the_start_and_the_interval(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url) as url, Client(url) as client:
        await push(url, "m", [(now - 1000, 1), (now, 2)])
        often = timedelta(milliseconds=300)
        async with aclosing(client.live("m", since="-1h", every=often)) as updates:
            assert values(await take(updates)) == [1, 2]
            for number in range(3, 10):
                await push(url, "m", [(now + number, number)])
            seen: list[float | None] = []
            while len(seen) < 7:
                seen += values(await take(updates))
    assert seen == [3, 4, 5, 6, 7, 8, 9]


async def test_a_restart_of_the_server_goes_unnoticed(database_url: str) -> None:
    now = now_ms()
    async with AsyncExitStack() as first:
        url = await first.enter_async_context(live_server(database_url))
        port = int(url.rpartition(":")[2])
        await push(url, "m", [(now, 0)])
        async with Client(url) as client, aclosing(client.live("m")) as updates:
            assert values(await take(updates)) == [0]
            await first.aclose()
            async with live_server(database_url, port=port), live_server(database_url) as other:
                for number in range(1, 6):
                    await push(other, "m", [(now + number, number)])
                seen: list[float | None] = []
                while len(seen) < 5:
                    update = await take(updates)
                    assert not update.is_snapshot
                    seen += values(update)
    assert seen == [1, 2, 3, 4, 5]


async def test_a_gap_is_reported_with_the_snapshot_that_follows(database_url: str) -> None:
    async with AsyncExitStack() as first:
        url = await first.enter_async_context(live_server(database_url))
        port = int(url.rpartition(":")[2])
        async with Client(url) as client, aclosing(client.live("m")) as updates:
            await take(updates)
            await first.aclose()
            execute(database_url, "UPDATE shards SET compacted_until = clock_timestamp()")
            execute(database_url, "TRUNCATE journal")
            async with live_server(database_url, port=port):
                update = await take(updates)
    assert (update.is_snapshot, update.gap) == (True, "replay_window_passed")


async def test_errors_that_retrying_cannot_solve_are_raised(database_url: str) -> None:
    async with live_server(database_url) as url, Client(url) as client:
        with pytest.raises(RequestRefused) as refused:
            await take(client.live("rate(m[5m])"))
        assert refused.value.answered_code == "invalid_selector"
        async with Client(f"{url}/elsewhere") as lost:
            with pytest.raises(RequestRefused, match="403"):
                await take(lost.live("m"))


async def test_no_server_to_begin_with_is_an_error() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ServerUnavailable, match=r"cannot follow http://127\.0\.0\.1:1: "):
            await take(client.live("m"))


async def test_watch_prints_a_line_for_every_sample(database_url: str) -> None:
    now = now_ms()
    async with live_server(database_url) as url:
        await push(url, "m", [(now, 1)], instance="a")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infrawatch", "watch", "m", "--url", url),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        assert process.stdout is not None
        lines = []
        for number in (1, 2):
            line = await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
            lines.append(line.decode().split())
            await push(url, "m", [(now + number, 1 + number)], instance="a")
        process.terminate()
        _, errors = await process.communicate()
    assert [line[1:] for line in lines] == [['m{instance="a"}', "1"], ['m{instance="a"}', "2"]]
    assert (process.returncode, errors) == (0, b"")


async def test_watch_reports_errors_in_one_line() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "watch", "m", "--url", "http://127.0.0.1:1"),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.startswith(b"infrawatch: cannot follow http://127.0.0.1:1: ")
    assert errors.count(b"\n") == 1

"""A write that PostgreSQL begins long after it was sent is not stored: it may have been retried."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from pushing import find_values, now_ms, push, series
from serving_process import serving_process
from sqlalchemy import text

from infrawatch.ingest.writer import LATE_S, _WriterState
from infrawatch.store.database import Database

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


async def test_a_group_of_a_dead_server_replaces_nothing_sent_since(
    database_url: str, database: Database
) -> None:
    now = now_ms()
    async with (
        serving_process(database_url) as dead,
        serving(database_url) as url,
        AsyncClient(base_url=dead.url, timeout=60) as first,
        AsyncClient(base_url=url, timeout=60) as second,
        asyncio.TaskGroup() as tasks,
    ):
        await push(first, series("late", [now - 1, 0]))
        async with database.writing() as connection:
            await connection.execute(text("SELECT FROM writers FOR UPDATE"))
            tasks.create_task(_lost(push(first, series("late", [now, 1]))))
            await _until(database, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted")
            late_at = datetime.now(UTC) + timedelta(seconds=LATE_S)
            dead.process.kill()
            for value in (1, 2):  # again, and a correction
                assert (await push(second, series("late", [now, value]))).status_code == 200
            await _until(database, f"SELECT clock_timestamp() > '{late_at.isoformat()}'")
        await _until(database, "SELECT bool_or(fenced) FROM writers")
        stored = await find_values(database, "late")
    assert stored == {(now - 1) * 1_000: 0.0, now * 1_000: 2.0}


async def test_a_group_that_came_late_is_sent_again_by_another_writer(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    latest = _WriterState.latest
    turns: list[_WriterState] = []

    def late_at_first(turn: _WriterState) -> datetime:
        turns.append(turn)
        return long_ago if len(turns) == 1 else latest(turn)

    monkeypatch.setattr(_WriterState, "latest", late_at_first)
    async with serving(database_url) as url, AsyncClient(base_url=url, timeout=60) as client:
        assert (await push(client, series("late", [1, 1]), precision="s")).status_code == 422
        assert (await push(client, series("late", [now_ms(), 1]))).status_code == 200
        assert len({turn.writer for turn in turns}) == 2
        assert execute(database_url, "SELECT count(*), min(seq) FROM journal") == "1|1"

        monkeypatch.setattr(_WriterState, "latest", lambda _turn: long_ago)
        answer = await push(client, series("late", [now_ms(), 2]))
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
    assert len(await find_values(database, "late")) == 1


async def _until(database: Database, condition: str) -> None:
    async with asyncio.timeout(60):
        while True:
            async with database.reading() as connection:
                if (await connection.execute(text(condition))).scalar_one():
                    return
            await asyncio.sleep(0.01)


async def _lost(answer: Awaitable[httpx.Response]) -> None:
    with suppress(httpx.TransportError):
        await answer

"""Connections that died without a word, or with PostgreSQL: readers hardly notice."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from math import inf
from time import monotonic

import pytest
from conftest import execute
from database_proxy import DatabaseProxy
from httpx import AsyncClient
from integration.conftest import serving
from keys import TESTS
from pushing import push, series

from infrawatch.access.limits import cache as limits_cache
from infrawatch.access.limits.cache import LimitsCache
from infrawatch.access.limits.changes import put_limits
from infrawatch.access.principal import EVERYBODY
from infrawatch.store import connections
from infrawatch.store.accounts.limits import Holder, Limits
from infrawatch.store.database import Database

READERS = 8
"""As many as the pool has connections."""

NEVER = timedelta(minutes=5)
"""A deadline that is never reached."""

END_ALL = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@asynccontextmanager
async def patient(database_url: str) -> AsyncGenerator[AsyncClient, None]:
    """A client of a server that waits for PostgreSQL for longer than the client for the server."""
    async with (
        serving(database_url, read_deadline=NEVER) as base_url,
        AsyncClient(base_url=base_url, timeout=60) as client,
    ):
        yield client


async def read_together(client: AsyncClient) -> list[int]:
    """Which statuses as many readers get as there are connections."""
    question = {"match": "read"}
    asked = (client.get("/v1/series", params=question) for _ in range(READERS))
    return [answer.status_code for answer in await asyncio.gather(*asked)]


async def test_readers_discard_connections_that_died_silently(
    proxy: DatabaseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PROBE_AFTER_S", 0)
    async with patient(proxy.url) as client:
        assert (await push(client, series("read"))).status_code == 200
        assert await read_together(client) == [200] * READERS

        proxy.forget_connections()

        assert await read_together(client) == [200] * READERS


async def test_after_a_restart_of_postgresql_no_read_fails(
    database_url: str,
) -> None:
    async with patient(database_url) as client:
        assert (await push(client, series("read"))).status_code == 200
        assert await read_together(client) == [200] * READERS

        execute(database_url, END_ALL)

        assert await read_together(client) == [200] * READERS


async def test_a_silent_connection_keeps_limits_from_being_read_for_a_moment_only(
    database: Database, proxy: DatabaseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PROBE_AFTER_S", inf)  # it falls silent while it is in use
    monkeypatch.setattr(limits_cache, "READ_DEADLINE_S", 0.5)
    monkeypatch.setattr(limits_cache, "LOOK_EVERY_S", 0.01)
    async with (
        Database.open(proxy.url, read_pool_size=1, read_deadline=NEVER) as through_proxy,
        asyncio.TaskGroup() as tasks,
    ):
        cache = LimitsCache(through_proxy)
        await cache.read()
        reading = tasks.create_task(cache.run())

        proxy.forget_connections()
        await put_limits(database, Holder(EVERYBODY.tenant_id), Limits(active_series=7), TESTS)

        deadline = monotonic() + 60
        while not cache.of(EVERYBODY):
            assert monotonic() < deadline
            await asyncio.sleep(0.01)
        reading.cancel()

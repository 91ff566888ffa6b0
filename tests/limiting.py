"""Servers with limits, and series to reach them with."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from httpx import AsyncClient
from integration.conftest import serving
from keys import TESTS, bearing
from pushing import now_ms, series

from infrawatch.access.limits.changes import put_limits
from infrawatch.access.principal import DEFAULT_TENANT_ID
from infrawatch.store.accounts.limits import Holder, Limits
from infrawatch.store.database import Database

TENANT = Holder(DEFAULT_TENANT_ID)


@asynccontextmanager
async def limited(
    database_url: str, key: str, limits: Limits, holder: Holder = TENANT, **settings: Any
) -> AsyncGenerator[AsyncClient, None]:
    """A server that knows of these limits, and a client with a key."""
    async with Database.open(database_url) as database:
        await put_limits(database, holder, limits, TESTS)
    async with (
        serving(database_url, auth="required", **settings) as url,
        AsyncClient(base_url=url, timeout=30, headers=bearing(key)) as client,
    ):
        yield client


def distinct(label: str, start: int, stop: int) -> list[object]:
    """Series that differ in one label."""
    return [
        series("requests", [now_ms(), 1], labels={"host": "a", label: f"v{n}"})
        for n in range(start, stop)
    ]

"""A browser, and a server with a few hosts, for all tests of a module."""

from collections.abc import AsyncIterator

import pytest_asyncio
from browsing import browsing
from hosts import host, send, times_until
from httpx import AsyncClient
from playwright.async_api import Browser, expect
from pushing import now_ms
from serving_live import live_server

SILENT_MS = 8 * 60_000

expect.set_options(timeout=60_000)  # the machine may be busy with other tests


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server_of_hosts(shared_database_url: str) -> AsyncIterator[str]:
    """The base URL of a server that `web-1` and `web-2` send to; `web-3` has fallen silent."""
    async with live_server(shared_database_url) as url:
        async with AsyncClient(base_url=url, timeout=30) as client:
            await send(client, *host("web-1"), *host("web-2", disk=0.97))
            silent = times_until(now_ms() - SILENT_MS, minutes=5)
            await send(client, *host("web-3", times=silent))
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def server(server_of_hosts: str, client: AsyncClient) -> str:
    """The same; `web-1` and `web-2` have just sent, however long earlier tests took."""
    recent = times_until(now_ms(), minutes=1)
    await send(client, *host("web-1", times=recent), *host("web-2", disk=0.97, times=recent))
    return server_of_hosts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server_of_hosts: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=server_of_hosts, timeout=30) as client:
        yield client

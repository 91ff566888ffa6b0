"""A running InfraWatch on a database of its own."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from database_proxy import DatabaseProxy, proxied
from httpx import AsyncClient
from pydantic import SecretStr
from typing_extensions import override

from infrawatch.app import create_app
from infrawatch.settings import Settings
from infrawatch.store.database import Database

open_database = partial(
    Database.open, write_deadline=timedelta(minutes=4), read_deadline=timedelta(minutes=4)
)
"""For the tests themselves: PostgreSQL ends a transaction that idles as long as the deadline, and
on a busy machine a test that holds a lock would lose it while others still work."""


class _Server(uvicorn.Server):
    """Signals when it has started, so that no polling is needed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


@asynccontextmanager
async def serving(database_url: str, **settings: Any) -> AsyncGenerator[str, None]:
    """Run a server on a free port of 127.0.0.1; gives its base URL."""
    app = create_app(Settings(_env_file=None, database_url=SecretStr(database_url), **settings))
    async with running(app) as url:
        yield url


@asynccontextmanager
async def running(app: Callable[..., Any]) -> AsyncGenerator[str, None]:
    """Run an app on a free port of 127.0.0.1; gives its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            ws="websockets-sansio",
            proxy_headers=False,  # as in server/serving.py: the app does that
            # uvicorn's 5 s are HTTPX's, too: one would close what the other just sends on.
            timeout_keep_alive=75,
        )
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        await asyncio.wait_for(server.has_started.wait(), timeout=60)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        yield database


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[str]:
    """The base URL of a running server."""
    async with serving(database_url) as url:
        yield url


@pytest.fixture
async def client(server: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=server, timeout=30) as client:
        yield client


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[DatabaseProxy]:
    """What stands between a server and its PostgreSQL, and can cut them off."""
    async with proxied(database_url) as proxy:
        yield proxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(shared_database_url: str) -> AsyncIterator[str]:
    """The base URL of one server for all tests of a module, which run in the module's loop."""
    async with serving(shared_database_url) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(shared_server: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=shared_server, timeout=30) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_database(shared_database_url: str) -> AsyncIterator[Database]:
    async with open_database(shared_database_url) as database:
        yield database

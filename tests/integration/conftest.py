"""A running InfraWatch on a database of its own."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from httpx import AsyncClient
from pydantic import SecretStr

from infrawatch.app import create_app
from infrawatch.settings import Settings
from infrawatch.store.database import Database


@asynccontextmanager
async def serving(database_url: str, **settings: Any) -> AsyncGenerator[str, None]:
    """Run a server on a free port of 127.0.0.1; gives its base URL."""
    app = create_app(
        Settings(_env_file=None, database_url=SecretStr(database_url), **settings)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, ws="websockets-sansio")
    )
    started = asyncio.Event()

    class Noticing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    server.__class__ = Noticing
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.serve(sockets=[listener]))
        await asyncio.wait(
            {running, tasks.create_task(started.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            started.set()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as database:
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

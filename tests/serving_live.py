"""A server as `infrawatch serve` runs it, inside this process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from infrawatch.app import create_app
from infrawatch.server.serving import listen, serving
from infrawatch.settings import Settings


@asynccontextmanager
async def live_server(
    database_url: str, *, redis_url: str | None = None, **settings: Any
) -> AsyncGenerator[str, None]:
    """Run a server, by default on a free port; yields its base URL."""
    if redis_url is not None:
        settings["redis_url"] = SecretStr(redis_url)
    read = Settings(_env_file=None, database_url=SecretStr(database_url), **{"port": 0, **settings})
    with listen(read) as listener:
        async with serving(create_app(read), listener, read) as url:
            yield url.replace("localhost", "127.0.0.1")

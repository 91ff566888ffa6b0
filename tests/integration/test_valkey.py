"""The embedded Valkey speaks Redis, to who knows its password."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError
from scripted_server import eventually

from infrawatch.embedded.home import HomeInUse
from infrawatch.embedded.valkey import valkey_running


async def test_it_answers_redis_clients(data_dir: Path) -> None:
    async with valkey_running(data_dir) as url, Redis.from_url(url) as client:
        await client.set("key", "value")
        assert await client.get("key") == b"value"
        assert (await client.config_get("bind"))["bind"] == "127.0.0.1"


async def test_without_the_password_it_answers_nothing(data_dir: Path) -> None:
    async with valkey_running(data_dir) as url:
        async with Redis.from_url("redis://" + url.partition("@")[2]) as client:
            with pytest.raises(AuthenticationError):
                await client.ping()
        assert url.partition("@")[0].rpartition(":")[2] not in _command_line()


async def test_valkey_stops_after_the_block(data_dir: Path) -> None:
    async with valkey_running(data_dir):
        process = _valkey()
        with pytest.raises(HomeInUse):
            async with valkey_running(data_dir):
                pytest.fail("two of them run")
    assert not process.is_running()


async def test_it_is_started_again_when_it_dies(data_dir: Path) -> None:
    async with valkey_running(data_dir) as url:
        os.kill(_valkey().pid, signal.SIGKILL)
        async with Redis.from_url(url) as client:

            async def answers() -> bool:
                try:
                    return await client.ping() is True
                except RedisError:
                    return False

            while not await answers():
                await eventually(lambda: _find_valkey() is not None)


def _command_line() -> str:
    return " ".join(_valkey().cmdline())


def _valkey() -> psutil.Process:
    process = _find_valkey()
    assert process is not None
    return process


def _find_valkey() -> psutil.Process | None:
    children = psutil.Process().children()
    return next((child for child in children if child.name() == "valkey-server"), None)

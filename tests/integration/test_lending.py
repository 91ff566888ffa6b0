"""Writing connections: the last one is kept for the next write, without making others wait."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.database import Database

PID = text("SELECT pg_backend_pid()")


async def pid_of(connection: AsyncConnection) -> int:
    return int((await connection.execute(PID)).scalar_one())


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_all_connections_can_be_used_at_once(database_url: str, size: int) -> None:
    async def use(database: Database, left: int) -> set[int]:
        async with database.writing() as connection:
            others = await use(database, left - 1) if left > 1 else set()
            return others | {await pid_of(connection)}

    async with Database.open(database_url, write_pool_size=size) as database:
        for _ in range(3):
            assert len(await use(database, size)) == size
            assert database.connections()["write"] == 0


async def test_an_idle_connection_that_was_closed_is_replaced(
    database_url: str, database: Database
) -> None:
    async with Database.open(database_url) as other:
        async with other.writing() as connection:
            first = await pid_of(connection)
        async with database.writing() as connection:
            await connection.execute(text(f"SELECT pg_terminate_backend({first}, 60000)"))

        async with other.writing() as connection:
            assert await pid_of(connection) != first


async def test_a_transaction_that_failed_leaves_nothing_to_the_next(database: Database) -> None:
    async def fail() -> None:
        async with database.writing() as connection:
            await connection.execute(text("CREATE TABLE half (n integer)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    async with database.writing() as connection:
        found = await connection.execute(text("SELECT to_regclass('half')"))
        assert found.scalar_one() is None
    assert database.connections()["write"] == 0

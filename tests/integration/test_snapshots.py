"""A read is one read-only snapshot, and leaves its connection as it found it."""

import asyncio

import pytest
from conftest import execute
from sqlalchemy import text

from infrawatch.errors import StoreRefusal
from infrawatch.store.connections import to_driver
from infrawatch.store.database import Database
from infrawatch.store.statements import Statement

COUNT = Statement.of("SELECT count(*) FROM tenants WHERE name <> :name")
BROKEN = Statement.of("SELECT 1 / (id - id) FROM tenants")


async def counted(database: Database) -> int:
    async with database.reading() as connection:
        [row] = await COUNT.fetch(connection, {"name": "nobody"})
        return int(row[0])


async def test_commits_after_the_snapshot_are_not_seen(database_url: str) -> None:
    async with Database.open(database_url, read_pool_size=1) as database:
        async with database.reading() as connection:
            [before] = await COUNT.fetch(connection, {"name": "nobody"})
            execute(database_url, "INSERT INTO tenants (name) VALUES ('another')")
            [after] = await COUNT.fetch(connection, {"name": "nobody"})
            through_sqlalchemy = await connection.execute(text("SELECT count(*) FROM tenants"))
            assert before == after
            assert through_sqlalchemy.scalar_one() == before[0]

        assert await counted(database) == before[0] + 1


async def test_a_failed_read_leaves_a_usable_connection(database_url: str) -> None:
    async with Database.open(database_url, read_pool_size=1) as database:
        with pytest.raises(Exception, match="division by zero"):
            async with database.reading() as connection:
                await BROKEN.fetch(connection, {})

        assert await counted(database) == 1


async def test_a_read_that_is_given_up_leaves_no_snapshot_behind(database_url: str) -> None:
    async with Database.open(database_url, read_pool_size=1) as database:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), database.reading() as connection:
                await connection.execute(text("SELECT count(*), pg_sleep(60) FROM tenants"))
        execute(database_url, "INSERT INTO tenants (name) VALUES ('another')")

        assert await counted(database) == 2


async def test_a_transaction_left_open_is_not_handed_to_another_caller(database_url: str) -> None:
    async with Database.open(database_url, read_pool_size=1) as database:
        async with database.reading() as connection:
            driver = to_driver(connection)
        await driver.execute("BEGIN")

        async with database.reading() as connection:
            assert to_driver(connection) is not driver


async def test_nothing_can_be_written(database_url: str) -> None:
    async with Database.open(database_url, read_pool_size=1) as database:
        with pytest.raises(Exception, match="25006"):
            async with database.reading() as connection:
                await Statement.of("DELETE FROM tenants").fetch(connection, {})

        assert await counted(database) == 1


async def test_a_full_disk_is_explained(database_url: str) -> None:
    no_space = "DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$"
    async with Database.open(database_url, read_pool_size=1) as database:
        with pytest.raises(StoreRefusal, match=r"its disk is full; .* \(SQLSTATE 53100\)"):
            async with database.reading() as connection:
                await connection.exec_driver_sql(no_space)

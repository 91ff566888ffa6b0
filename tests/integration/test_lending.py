"""Writing connections: the last one is kept for the next write, without making others wait."""

from datetime import UTC, datetime
from math import inf
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.connections import Connection, to_driver
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


@pytest.mark.parametrize(
    ("array", "elements"),
    [
        ("smallint[]", [-(2**15), 0, None]),
        ("integer[]", [-(2**31), 2**31 - 1, None]),
        ("bigint[]", [-(2**63), 2**63 - 1, None]),
        ("float8[]", [-0.0, 0.1, inf, None]),
        (
            "timestamptz[]",
            [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 2, 3, tzinfo=UTC), None],
        ),
        ("uuid[]", [UUID(int=0), UUID(int=2**128 - 1), None]),
    ],
)
async def test_arrays_are_exchanged_without_asking_for_their_type(
    database: Database, monkeypatch: pytest.MonkeyPatch, array: str, elements: list[object]
) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError("asked for a type")

    monkeypatch.setattr(Connection, "_introspect_types", refuse)
    async with database.writing() as connection, database.reading() as other:
        for one in (connection, other):
            sent = await to_driver(one).fetchrow(f"SELECT CAST($1 AS {array}), $1::text", elements)
            literal, again = sent[1], f"SELECT CAST(CAST($1 AS text) AS {array})"
            assert list(sent[0]) == elements == await to_driver(one).fetchval(again, literal)
            assert str(sent[0]) == str(elements)  # distinguishes -0.0


async def test_other_arrays_are_asked_for(database: Database) -> None:
    async with database.writing() as connection:
        assert await to_driver(connection).fetchval("SELECT ARRAY[date '2026-01-01']")

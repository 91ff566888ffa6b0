"""`wait_for`: a read that follows an acknowledged write sees it, on any replica."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient
from integration.conftest import serving
from sqlalchemy import text

from infrawatch.model.cursor import Cursor
from infrawatch.store.database import Database
from infrawatch.store.writers import WriterRepository

PATIENCE = timedelta(seconds=2)

READS = {
    "/v1/series": {"match": "up"},
    "/v1/labels": {},
    "/v1/labels/host/values": {},
    "/v1/metadata": {},
    "/v1/latest": {"match": "up"},
    "/v1/samples": {"match": "up"},
    "/v1/range": {"match": "up"},
}


@pytest.fixture
async def replica(database_url: str) -> AsyncIterator[AsyncClient]:
    """A second server on the same database."""
    async with serving(database_url) as url, AsyncClient(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
async def impatient(database_url: str) -> AsyncIterator[AsyncClient]:
    """One that gives up early."""
    async with (
        serving(database_url, read_deadline=PATIENCE) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


def batch(value: float) -> dict[str, Any]:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return {"series": [{"metric": "up", "labels": {"host": "a"}, "samples": [[now_ms, value]]}]}


async def written(client: AsyncClient, value: float = 1.0) -> Cursor:
    answer = await client.post("/v1/samples", json=batch(value))
    assert answer.status_code == 200
    return Cursor.from_text(answer.json()["cursor"])


def beyond(cursor: Cursor, *, commits: int = 1) -> Cursor:
    """What the cursor of a later write of the same writer says."""
    [(writer, seq)] = cursor.seqs.items()
    return Cursor(cursor.epoch, cursor.at_us, {writer: seq + commits})


async def test_an_acknowledged_write_is_seen_on_every_replica(
    client: AsyncClient, replica: AsyncClient
) -> None:
    for value in range(20):
        cursor = (await written(client, float(value))).to_text()
        for server in (client, replica):
            answer = await server.get("/v1/latest", params={"match": "up", "wait_for": cursor})

            assert answer.json()["series"][0]["value"] == value


async def test_every_read_waits(client: AsyncClient, replica: AsyncClient) -> None:
    cursor = beyond(await written(client)).to_text()
    async with asyncio.TaskGroup() as tasks:
        reads = [
            tasks.create_task(replica.get(path, params={**parameters, "wait_for": cursor}))
            for path, parameters in READS.items()
        ]
        _, unfinished = await asyncio.wait(reads, timeout=0.3)
        assert unfinished == set(reads)
        await written(client)

    assert [read.result().status_code for read in reads] == [200] * len(reads)


async def test_a_write_that_never_comes_is_waited_for_until_the_deadline(
    client: AsyncClient, impatient: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = beyond(await written(client)).to_text()
    looked: list[Cursor] = []
    has_reached = WriterRepository.has_reached

    async def noting(writers: WriterRepository, awaited: Cursor) -> bool:
        looked.append(awaited)
        return await has_reached(writers, awaited)

    monkeypatch.setattr(WriterRepository, "has_reached", noting)
    started = monotonic()
    answer = await impatient.get("/v1/latest", params={"match": "up", "wait_for": cursor})

    assert monotonic() - started >= PATIENCE.total_seconds()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["code"] == "deadline_exceeded"
    assert "wait_for" in answer.json()["detail"]
    assert len(looked) < 15  # many who wait in vain must not keep the database busy


async def test_a_waiting_read_holds_no_connection(
    client: AsyncClient, replica: AsyncClient
) -> None:
    cursor = beyond(await written(client)).to_text()
    async with asyncio.TaskGroup() as tasks:
        waiting = [
            tasks.create_task(replica.get("/v1/latest", params={"match": "up", "wait_for": cursor}))
            for _ in range(30)  # more than there are connections
        ]
        for _ in range(10):
            answer = await replica.get("/v1/latest", params={"match": "up"})
            assert answer.status_code == 200
        await written(client)

    assert {one.result().status_code for one in waiting} == {200}


async def test_a_cursor_of_another_database_is_refused(client: AsyncClient) -> None:
    cursor = await written(client)
    foreign = Cursor(uuid4(), cursor.at_us, cursor.seqs).to_text()

    for path, parameters in READS.items():
        answer = await client.get(path, params={**parameters, "wait_for": foreign})

        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_cursor"
        assert "another database" in answer.json()["detail"]


async def test_an_invalid_cursor_is_refused(client: AsyncClient) -> None:
    for cursor in ("", "x", "eyJ9", "W10", "a" * 16_384, "%%%"):
        answer = await client.get("/v1/latest", params={"match": "up", "wait_for": cursor})

        assert answer.status_code == 422, cursor
        assert answer.json()["code"] == "invalid_cursor"


async def test_a_cursor_of_several_writers_waits_for_all_of_them(
    client: AsyncClient, replica: AsyncClient
) -> None:
    one, other = await written(client, 1.0), await written(replica, 2.0)
    assert one.seqs.keys() != other.seqs.keys()

    seen = Cursor(one.epoch, one.at_us, {**one.seqs, **other.seqs})
    unseen = Cursor(one.epoch, one.at_us, {**one.seqs, **beyond(other).seqs})
    answers = [
        await replica.get("/v1/latest", params={"match": "up", "wait_for": cursor.to_text()})
        for cursor in (seen, unseen)
    ]

    assert [answer.status_code for answer in answers] == [200, 503]


async def test_a_cursor_outlives_the_server_that_gave_it(
    database_url: str, client: AsyncClient, database: Database
) -> None:
    cursor = (await written(client)).to_text()
    async with database.writing() as connection:  # as a server does to one that was lost
        await connection.execute(text("UPDATE writers SET fenced = true"))
    async with serving(database_url) as url, AsyncClient(base_url=url, timeout=30) as later:
        answer = await later.get("/v1/latest", params={"match": "up", "wait_for": cursor})

    assert answer.status_code == 200

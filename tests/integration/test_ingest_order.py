"""The last write wins on all servers: by the database's clock, not by the times of samples."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from pushing import find_values, now_ms, push, series

from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

LATEST_FIRST = """
SELECT u.value FROM journal j
CROSS JOIN LATERAL journal_samples(j.samples, j.series_ids, j.times, j."values", j.odd) u
JOIN series s ON s.id = u.series_id
WHERE s.metric = 'raced' ORDER BY arrived_at DESC, writer DESC, seq DESC, first + i DESC
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other_client(shared_database_url: str) -> AsyncIterator[AsyncClient]:
    """Of a second server on the same database."""
    async with serving(shared_database_url) as url, AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def test_a_correction_replaces_what_it_corrects(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()

    for value in (1, 3, 2):
        await push(shared_client, series("corrected", [now, value]))

    assert await find_values(shared_database, "corrected") == {now * 1_000: 2.0}


async def test_sending_again_changes_nothing(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()
    one = series("repeated", [now, 1], [now + 1, 2])

    for _ in range(3):
        answer = await push(shared_client, one)
        assert answer.json()["accepted"] == 2

    assert await find_values(shared_database, "repeated") == {
        now * 1_000: 1.0,
        (now + 1) * 1_000: 2.0,
    }


async def test_within_a_batch_the_last_of_one_time_wins(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()

    await push(
        shared_client,
        series("twice", [now, 1], [now - 5, 7], [now, 2]),
        series("other", [now, 9]),
        series("twice", [now - 5, 8], [now, 3]),
    )

    assert await find_values(shared_database, "twice") == {(now - 5) * 1_000: 8.0, now * 1_000: 3.0}


async def test_samples_may_come_in_any_order(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()
    ages = [0, 50, 10, 40, 20, 30]

    await push(shared_client, series("shuffled", *[[now - age, age] for age in ages[:3]]))
    await push(shared_client, series("shuffled", *[[now - age, age] for age in ages[3:]]))

    stored = await find_values(shared_database, "shuffled")
    assert stored == {(now - age) * 1_000: age for age in sorted(ages, reverse=True)}


async def test_the_later_arrival_wins_whichever_server_took_it(
    shared_client: AsyncClient, other_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()

    for turn, client in enumerate([shared_client, other_client, other_client, shared_client] * 2):
        samples = [[now, turn], [now - 1, -turn]]
        await push(client, series("by_two", *(samples if turn % 2 else reversed(samples))))
        stored = await find_values(shared_database, "by_two")
        assert stored == {now * 1_000: turn, (now - 1) * 1_000: -turn}


async def test_the_last_in_the_journal_of_simultaneous_writes_wins(
    shared_client: AsyncClient,
    other_client: AsyncClient,
    shared_database: Database,
    shared_database_url: str,
) -> None:
    now = now_ms()
    async with asyncio.TaskGroup() as tasks:
        for value in range(40):
            client = (shared_client, other_client)[value % 2]
            tasks.create_task(push(client, series("raced", [now, value])))

    arrivals = execute(shared_database_url, LATEST_FIRST).split()
    assert len(arrivals) == 40
    [stored] = (await find_values(shared_database, "raced")).values()
    assert stored == float(arrivals[0])
    listed = await other_client.get("/v1/samples?match=raced&start=-1m")
    [answered] = listed.json()["series"][0]["samples"]
    assert answered[1] == stored


async def test_two_servers_that_create_the_same_series_at_once_create_each_once(
    shared_client: AsyncClient, other_client: AsyncClient, shared_database_url: str
) -> None:
    now = now_ms()
    new = [
        {"metric": f"new_{number % 100}", "labels": {"n": str(number)}, "samples": [[now, number]]}
        for number in range(10_000)
    ]

    answers = await asyncio.gather(push(shared_client, *new), push(other_client, *reversed(new)))

    assert [answer.json()["accepted"] for answer in answers] == [10_000] * 2
    counted = "SELECT count(*), count(DISTINCT id) FROM series WHERE metric LIKE 'new_%'"
    assert execute(shared_database_url, counted) == "10000|10000"
    wrong = """
    SELECT count(*) FROM samples WHERE metric LIKE 'new_%' AND value <> (labels ->> 'n')::float8
    """
    assert execute(shared_database_url, wrong) == "0"

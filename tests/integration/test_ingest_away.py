"""PostgreSQL unreachable, hanging or dying: senders must retry, and no acknowledgement is false."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from conftest import execute
from database_proxy import AtCommit, DatabaseProxy, Road
from httpx import AsyncClient, Response
from integration.conftest import serving
from pushing import find_values, now_ms, push, series
from stored import locked
from structlog.testing import capture_logs

from infrawatch.store.database import Database

DEADLINE_S = 1.0
BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# Not upkeep, which has to do with writers, too.
WAITING = """
SELECT pid FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND query ~ 'append_group'
"""


@asynccontextmanager
async def impatient(
    url: str, deadline_s: float = DEADLINE_S, **settings: Any
) -> AsyncGenerator[AsyncClient, None]:
    """A client of a server that answers senders within `deadline_s`."""
    async with (
        serving(url, write_deadline=timedelta(seconds=deadline_s), **settings) as base_url,
        AsyncClient(base_url=base_url, timeout=30) as client,
    ):
        yield client


@pytest.fixture
async def client(proxy: DatabaseProxy) -> AsyncIterator[AsyncClient]:
    async with impatient(proxy.url) as client:
        yield client


async def pushed_when_it_is_back(client: AsyncClient, *all_series: object) -> Response:
    """Send again and again, as senders do, until it is acknowledged."""
    deadline = monotonic() + 60
    while (answer := await push(client, *all_series)).status_code == 503:
        assert monotonic() < deadline, answer.text
    assert answer.status_code == 200, answer.text
    return answer


def assert_later(answer: Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.elapsed.total_seconds() < DEADLINE_S + 20, "hanging connections are closed first"


@pytest.mark.parametrize("road", [Road.CLOSED, Road.SILENT])
@pytest.mark.parametrize("is_known", [True, False])
async def test_during_an_outage_of_postgresql_senders_are_told_to_retry(
    client: AsyncClient, proxy: DatabaseProxy, database: Database, *, road: Road, is_known: bool
) -> None:
    now = now_ms()
    await pushed_when_it_is_back(client, series("away", [now, 1]))
    one = series("away" if is_known else "not_seen_before", [now + 1, 2])

    if road is Road.CLOSED:
        proxy.close()
    proxy.road = road
    answers = await asyncio.gather(*(push(client, one) for _ in range(10)))
    again = await push(client, one)

    for answer in (*answers, again):
        assert_later(answer)
    proxy.road = Road.OPEN
    assert (await pushed_when_it_is_back(client, one)).status_code == 200
    stored = await find_values(database, one["metric"])
    assert stored.pop((now + 1) * 1_000) == 2
    assert stored == ({now * 1_000: 1} if is_known else {})


async def test_an_outage_is_two_lines_in_the_log_however_often_senders_retry(
    client: AsyncClient, proxy: DatabaseProxy
) -> None:
    await pushed_when_it_is_back(client, series("logged"))

    with capture_logs() as lines:
        proxy.close()
        for _ in range(5):
            assert_later(await push(client, series("logged")))
        proxy.road = Road.OPEN
        await pushed_when_it_is_back(client, series("logged"))

    commits = [line for line in lines if line["event"].startswith("commits_")]
    assert [line["event"] for line in commits] == ["commits_fail", "commits_succeed_again"]
    assert commits[-1]["groups_failed"] >= 5


async def test_a_server_says_that_it_is_not_ready_and_becomes_ready_by_itself(
    client: AsyncClient, proxy: DatabaseProxy
) -> None:
    assert (await client.get("/readyz")).json()["status"] == "ready"

    proxy.close()
    away = await client.get("/readyz")

    assert away.status_code == 503
    assert "PostgreSQL" in away.json()["failures"]["database"]
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/metrics")).status_code == 200
    proxy.road = Road.OPEN
    await pushed_when_it_is_back(client, series("back"))
    assert (await client.get("/readyz")).status_code == 200


@contextmanager
def stopped(database_url: str) -> Iterator[None]:
    """Every process that serves this database stands still (SIGSTOP)."""
    pids = [int(pid) for pid in execute(database_url, BACKENDS).split()]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_frozen_postgresql_keeps_no_request_waiting(
    client: AsyncClient, database: Database, database_url: str
) -> None:
    now = now_ms()
    await pushed_when_it_is_back(client, series("still", [now, 1]))

    with stopped(database_url):
        assert_later(await push(client, series("still", [now, 2])))

    await pushed_when_it_is_back(client, series("still", [now, 3]))
    assert await find_values(database, "still") == {now * 1_000: 3}


async def test_a_network_that_drops_packets_during_a_group_keeps_no_sender_waiting(
    client: AsyncClient, proxy: DatabaseProxy, database: Database
) -> None:
    now = now_ms()
    await pushed_when_it_is_back(client, series("halved", [now, 1]))

    proxy.is_silent_in_group = True
    assert_later(await push(client, series("halved", [now, 2])))

    assert not proxy.is_silent_in_group, "the fault has occurred"
    await pushed_when_it_is_back(client, series("halved", [now, 3]))
    assert await find_values(database, "halved") == {now * 1_000: 3}


@pytest.mark.parametrize("table", ["writers", "journal", "series", "metric_metadata"])
async def test_the_deadline_holds_whatever_hangs(
    client: AsyncClient, database: Database, table: str
) -> None:
    now = now_ms()
    await pushed_when_it_is_back(client, series("known"))

    async with locked(database, table):
        assert_later(await push(client, series("hanging", [now, 1], type="gauge")))

    await pushed_when_it_is_back(client, series("hanging", [now, 2], type="gauge"))
    assert await find_values(database, "hanging") == {now * 1_000: 2}
    known = (await client.get("/v1/metadata")).json()["metadata"]
    assert known["hanging"]["type"] == "gauge", "metadata is stored in spite of the 503"


@pytest.mark.parametrize("table", ["writers", "journal"])
@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
async def test_a_group_that_is_ended_in_the_middle_costs_only_a_retry(
    client: AsyncClient, database: Database, database_url: str, table: str, end: str
) -> None:
    now = now_ms()
    await pushed_when_it_is_back(client, series("cut", [now, 1]))

    async with locked(database, table), asyncio.TaskGroup() as tasks:
        pushing = tasks.create_task(push(client, series("cut", [now, 2])))
        while not (pid := await asyncio.to_thread(execute, database_url, WAITING)):
            pass
        execute(database_url, f"SELECT {end}({pid})")

    assert_later(pushing.result())
    answer = await pushed_when_it_is_back(client, series("cut", [now, 3]))
    assert answer.status_code == 200
    assert await find_values(database, "cut") == {now * 1_000: 3}


@pytest.mark.parametrize("fate", AtCommit)
async def test_a_commit_of_unknown_outcome_is_answered_truthfully(
    proxy: DatabaseProxy, database: Database, database_url: str, fate: AtCommit
) -> None:
    is_known = fate is not AtCommit.SWALLOW_ANSWER
    # A deadline that has to pass is short; one that must not, is longer than any machine is slow.
    async with impatient(proxy.url, deadline_s=30 if is_known else 3) as client:
        await meet_fate(client, proxy, database, fate, is_known=is_known)
    fenced = "SELECT count(*) FILTER (WHERE fenced), count(*) FROM writers"
    assert execute(database_url, fenced) == "1|2"
    by_writer = """
    SELECT count(*) FROM writers JOIN (SELECT writer, max(seq) AS seq FROM journal GROUP BY 1) AS j
    USING (writer) WHERE last_seq <> seq
    """
    assert execute(database_url, by_writer) == "0", "the journal has every valid commit"


async def meet_fate(
    client: AsyncClient, proxy: DatabaseProxy, database: Database, fate: AtCommit, *, is_known: bool
) -> None:
    """Push before, during and after a commit that `fate` befalls; only a known one is a 200."""
    now = now_ms()
    first = await pushed_when_it_is_back(client, series("unknown", [now, 1]))

    proxy.at_commit = fate
    answer = await push(client, series("unknown", [now, 2]))

    assert proxy.at_commit is None, "the fault has occurred"
    if not is_known:
        assert answer.status_code == 503
    else:
        assert answer.status_code == 200
        assert await find_values(database, "unknown") == {now * 1_000: 2}
        seen = {"match": "unknown", "wait_for": answer.json()["cursor"]}
        assert (await client.get("/v1/latest", params=seen)).json()["series"][0]["value"] == 2
    third = await pushed_when_it_is_back(client, series("unknown", [now, 3]))
    assert third.json()["cursor"] != first.json()["cursor"]
    assert await find_values(database, "unknown") == {now * 1_000: 3}


@pytest.mark.parametrize("statement", ["UPDATE writers SET fenced = true", "DELETE FROM writers"])
async def test_a_fenced_or_removed_writer_is_replaced(
    database: Database, database_url: str, statement: str
) -> None:
    now = now_ms()
    async with impatient(database_url, deadline_s=30) as client:
        await push(client, series("fenced", [now, 1]))
        before = execute(database_url, "SELECT writer FROM writers")
        execute(database_url, statement)

        for value in (2, 3):
            assert (await push(client, series("fenced", [now, value]))).status_code == 200

    assert await find_values(database, "fenced") == {now * 1_000: 3}
    written = "SELECT writer, count(*) FROM journal GROUP BY writer ORDER BY writer"
    assert execute(database_url, written).split() == [f"{before}|1", f"{int(before) + 1}|2"]


async def test_nothing_acknowledged_is_lost_however_often_connections_break(
    client: AsyncClient, proxy: DatabaseProxy, database: Database
) -> None:
    start = now_ms() - 60_000
    acknowledged: set[int] = set()

    async def send(lane: int) -> None:
        for time in range(start + lane, start + 120, 10):
            answer = await push(client, series("stormy", [time, time], [time - 30_000, time]))
            if answer.status_code == 200:
                acknowledged.add(time)
            else:
                assert_later(answer)

    async with asyncio.TaskGroup() as tasks:
        for lane in range(4):
            tasks.create_task(send(lane))
        for fate in [*AtCommit, None] * 3:
            await break_once(proxy, fate)
            await push(client, series("meanwhile"))

    await pushed_when_it_is_back(client, series("calm"))
    stored = await find_values(database, "stormy")
    assert acknowledged
    for time in acknowledged:
        assert stored[time * 1_000] == stored[(time - 30_000) * 1_000] == time


async def break_once(proxy: DatabaseProxy, fate: AtCommit | None) -> None:
    proxy.at_commit = fate
    if fate is None:
        proxy.close()
        proxy.road = Road.OPEN

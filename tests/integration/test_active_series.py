"""The limit on active series: exact for all servers together; known ones are never refused."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from conftest import execute
from httpx import AsyncClient, Response
from keys import a_key
from limiting import distinct, limited
from pushing import push, series
from viewing import until

from infrawatch.access.limits import active_series as counting
from infrawatch.access.limits import shared
from infrawatch.access.limits.active_series import ActiveSeries
from infrawatch.access.limits.redis_client import redis_client
from infrawatch.access.limits.shared import Shared
from infrawatch.access.principal import SCOPES
from infrawatch.embedded.valkey import valkey_running
from infrawatch.ingest.series import naming
from infrawatch.ingest.series import quota as series_quota
from infrawatch.store.accounts.limits import Limits

LIMIT = 300
LONGEST = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, Redis is there as long as it runs."""
    monkeypatch.setattr(shared, "DEADLINE_S", 60.0)


@pytest.fixture
async def key(database_url: str) -> str:
    return await a_key(database_url, *SCOPES)


async def test_at_the_limit_known_series_flow_on_and_new_ones_are_refused(
    database_url: str, key: str
) -> None:
    async with limited(database_url, key, Limits(active_series=10)) as client:
        assert (await push(client, *distinct("path", 0, 8))).status_code == 200

        mixed = await push(client, *distinct("path", 4, 14), partial="true")
        known = await push(client, *distinct("path", 0, 10))
        *_, new = [  # one at a time, as most floods come
            await push(client, *distinct("path", number, number + 1)) for number in (20, 21, 22)
        ]

        assert mixed.status_code == 207
        assert (mixed.json()["accepted"], mixed.json()["rejected"]) == (6, 4)
        assert [one["pointer"] for one in mixed.json()["errors"]] == [
            f"/series/{n}/samples/0/0" for n in range(6, 10)
        ]
        assert known.status_code == 200
        assert new.status_code == 422
        refused = new.json()["errors"][0]
        assert refused["code"] == "too_many_series"
        assert "10 active series" in refused["detail"]
        assert "label path differs most (17 values)" in refused["detail"]
        assert len((await client.get("/v1/series", params={"match": "requests"})).json()["series"])


@pytest.mark.parametrize("was_refused", [False, True])
async def test_known_series_are_found_among_many(
    database_url: str, key: str, monkeypatch: pytest.MonkeyPatch, *, was_refused: bool
) -> None:
    """Also where names are read and looked up at low priority, because some were refused before."""
    monkeypatch.setattr(series_quota, "_AT_ONCE", 7)
    monkeypatch.setattr(naming, "_PART", 3)
    async with limited(database_url, key, Limits(active_series=20)) as client:
        known = distinct("path", 0, 20)
        assert (await push(client, *known)).status_code == 200

    async with limited(database_url, key, Limits(active_series=20)) as client:  # with no cache yet
        if was_refused:
            assert (await push(client, *distinct("path", 40, 41))).status_code == 422
        mixed = [one for pair in zip(known, distinct("path", 20, 40), strict=True) for one in pair]
        answer = await push(client, *mixed, partial="true")

    assert answer.status_code == 207
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (20, 20)
    assert [one["pointer"] for one in answer.json()["errors"]] == [
        f"/series/{n}/samples/0/0" for n in range(1, 40, 2)
    ]


async def test_inactive_series_make_room(
    database_url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "COUNT_SOON_S", 0.0)
    monkeypatch.setattr(counting, "DEADLINES", 0.001)  # nothing is recent for long
    async with limited(database_url, key, Limits(active_series=5)) as client:
        assert (await push(client, *distinct("path", 0, 5))).status_code == 200
        assert (await push(client, *distinct("path", 5, 6))).status_code == 422
        execute(database_url, "TRUNCATE journal")

        async def has_room() -> bool:
            return (await push(client, *distinct("path", 5, 6))).status_code == 200

        await until(has_room)


async def test_two_servers_flooded_at_once_store_exactly_the_limit(
    database_url: str, key: str, temporary_root: Path
) -> None:
    """Also when Redis goes away: what is full stays full, and what is stored flows on."""
    limits = Limits(active_series=LIMIT)
    async with AsyncExitStack() as redis, AsyncExitStack() as stack:
        url = await redis.enter_async_context(valkey_running(temporary_root / "flood"))
        servers = [
            await stack.enter_async_context(
                limited(database_url, key, limits, redis_url=url, write_deadline=LONGEST)
            )
            for _ in range(2)
        ]

        answers = await flood(servers, "path")
        stored = stored_labels(database_url)
        assert {answer.status_code for answer in answers} <= {200, 207}
        assert sum(answer.json()["accepted"] for answer in answers) == len(stored) == LIMIT

        await redis.aclose()
        answers = await flood(servers, "path_without_redis")
        assert {answer.status_code for answer in answers} == {207}
        known = [series("requests", labels=labels) for labels in stored]
        for server in servers:
            assert (await push(server, *known)).status_code == 200
        assert stored_labels(database_url) == stored


async def test_servers_flooded_while_redis_dies_store_what_each_has_room_for_at_most(
    database_url: str, key: str, temporary_root: Path
) -> None:
    limits = Limits(active_series=LIMIT)
    async with AsyncExitStack() as redis, AsyncExitStack() as stack:
        url = await redis.enter_async_context(valkey_running(temporary_root / "dying"))
        servers = [
            await stack.enter_async_context(
                limited(database_url, key, limits, redis_url=url, write_deadline=LONGEST)
            )
            for _ in range(2)
        ]

        flooding = asyncio.ensure_future(flood(servers, "path"))

        async def are_some_stored() -> bool:
            return bool(await asyncio.to_thread(stored_labels, database_url))

        await until(are_some_stored)
        await redis.aclose()
        answers = await flooding

        stored = stored_labels(database_url)
        assert {answer.status_code for answer in answers} <= {200, 207}
        assert sum(answer.json()["accepted"] for answer in answers) == len(stored)
        assert LIMIT <= len(stored) <= len(servers) * LIMIT
        known = [series("requests", labels=labels) for labels in stored]
        for server in servers:
            assert (await push(server, *known)).status_code == 200


async def flood(servers: Sequence[AsyncClient], label: str) -> Sequence[Response]:
    """Push three times the limit of new series through all servers at the same time."""
    pushes = (
        push(servers[number % len(servers)], *distinct(label, start, start + 100), partial="1")
        for number, start in enumerate(range(0, 3 * LIMIT, 100))
    )
    return await asyncio.gather(*pushes)


def stored_labels(database_url: str) -> list[dict[str, str]]:
    lines = execute(database_url, "SELECT labels FROM series ORDER BY id").splitlines()
    return [json.loads(line) for line in lines]


class Servers:
    """Two servers that count together in Redis, or one without it, asked in turn for 100 series."""

    def __init__(self, *servers: ActiveSeries) -> None:
        self._servers = servers
        self._asked = 0
        self.stored = 0
        """What PostgreSQL counts."""

    async def grant(self, names: range, by: int | None = None) -> Sequence[int]:
        """Ask for new series, by number; returns which of them are granted."""
        self._asked += 1
        server = self._servers[(self._asked if by is None else by) % len(self._servers)]
        fingerprints = [name.to_bytes(counting.FINGERPRINT_BYTES, "big") for name in names]
        granted = await server.grant(1, fingerprints, 100, self._count)
        return [name for name, is_granted in zip(names, granted, strict=True) if is_granted]

    async def _count(self, _enough: int) -> int:
        return self.stored


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def redis_url(temporary_root: Path) -> AsyncIterator[str]:
    async with valkey_running(temporary_root / "active-series") as url:
        yield url


@asynccontextmanager
async def counting_in(
    redis_url: str | None, write_deadline: timedelta = timedelta(seconds=10)
) -> AsyncGenerator[Servers, None]:
    epoch = uuid4()
    async with Shared.open(redis_url, epoch) as one, Shared.open(redis_url, epoch) as other:
        both = [ActiveSeries(shared, write_deadline) for shared in (one, other)]
        yield Servers(*(both if redis_url else both[:1]))


@pytest_asyncio.fixture(loop_scope="module", params=["in Redis", "here"])
async def where(request: pytest.FixtureRequest, redis_url: str) -> str | None:
    return redis_url if request.param == "in Redis" else None


@pytest_asyncio.fixture(loop_scope="module")
async def servers(where: str | None) -> AsyncIterator[Servers]:
    async with counting_in(where) as servers:
        yield servers


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_granted_but_not_committed_is_not_granted_again_after_counting(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "COUNT_SOON_S", 0.0)
    assert len(await servers.grant(range(60))) == 60
    assert await servers.grant(range(60, 120)) == [*range(60, 100)]
    servers.stored = 30  # the others are on their way
    assert await servers.grant(range(120, 140)) == []
    servers.stored = 100
    assert await servers.grant(range(140, 160)) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_retry_takes_no_room_twice(servers: Servers) -> None:
    assert len(await servers.grant(range(80))) == 80
    assert len(await servers.grant(range(80))) == 80
    assert await servers.grant(range(70, 110)) == [*range(70, 100)]


@pytest.mark.asyncio(loop_scope="module")
async def test_series_that_are_never_stored_give_their_room_back(
    where: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "COUNT_SOON_S", 0.0)
    async with counting_in(where, timedelta(milliseconds=1)) as servers:
        assert len(await servers.grant(range(100))) == 100

        async def others_have_room() -> bool:
            return len(await servers.grant(range(100, 200))) == 100

        await until(others_have_room)


@pytest.mark.asyncio(loop_scope="module")
async def test_series_that_become_active_again_count_from_the_next_count_on(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(await servers.grant(range(10))) == 10
    servers.stored = 95  # these 10 may not be among them
    monkeypatch.setattr(counting, "COUNT_AGAIN_S", 0.0)
    assert await servers.grant(range(10, 20)) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_without_redis_a_server_continues_from_its_last_count_and_reports_what_it_granted(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PAUSE_S", 0.0)
    async with counting_in(redis_url) as servers, redis_client(redis_url) as redis:
        assert len(await servers.grant(range(30), by=0)) == 30
        assert len(await servers.grant(range(30, 60), by=1)) == 30

        await redis.acl_setuser("default", enabled=True, commands=["-eval"])
        try:
            assert await servers.grant(range(60, 110), by=1) == [*range(60, 100)]
            monkeypatch.setattr(counting, "COUNT_SOON_S", 0.0)
            servers.stored = 30  # those of the other server; its own are on their way
            assert await servers.grant(range(110, 120), by=1) == []
        finally:
            monkeypatch.setattr(counting, "COUNT_SOON_S", 60.0)
            await redis.acl_setuser("default", enabled=True, commands=["+eval"])

        assert await servers.grant(range(120, 130), by=1) == []
        assert await servers.grant(range(130, 140), by=0) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_it_counts_in_redis_as_it_does_without(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random(6)
    async with counting_in(redis_url) as together, counting_in(None) as alone:
        for _ in range(300):
            monkeypatch.setattr(counting, "COUNT_AGAIN_S", chance.choice((0.0, 1e6)))
            monkeypatch.setattr(counting, "COUNT_SOON_S", chance.choice((0.0, 1e6)))
            together.stored = alone.stored = chance.randrange(120)
            start = chance.randrange(300)
            names = range(start, start + chance.randrange(1, 20))

            assert await together.grant(names) == await alone.grant(names)

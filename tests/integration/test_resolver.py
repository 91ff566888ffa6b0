"""New series: requests that wait at the same time create theirs in one transaction."""

import asyncio
from collections.abc import Hashable, Iterable
from itertools import groupby

import asyncpg
import pytest
from conftest import execute
from keys import TESTS
from sqlalchemy import text
from stored import named
from viewing import until

from infrawatch.access.tenants import create_tenant
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.ingest.series.resolver import Resolver
from infrawatch.model.labels import SeriesName
from infrawatch.store.database import Database
from infrawatch.store.series import SeriesRepository
from infrawatch.telemetry import Telemetry

SPACE = KeySpace(1, "some format")
TRANSACTIONS = "SELECT count(DISTINCT xmin::text) FROM series"
LOOKED_AT = text("""
SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'series'
""")
METRICS = "SELECT string_agg(metric, ' ' ORDER BY metric) FROM series"


def resolver(database: Database, cache_bytes: int = 1 << 20) -> Resolver:
    return Resolver(database, SeriesCache(cache_bytes), Telemetry())


async def resolve(resolver: Resolver, metrics: Iterable[str], space: KeySpace = SPACE) -> list[int]:
    """The ids of some series, by keys that are their metrics."""
    ids = await resolver.resolve(space, {metric: named(metric) for metric in metrics})
    return [ids[metric] for metric in metrics]


@pytest.mark.parametrize("cache_bytes", [1 << 20, 0])
async def test_waiting_requests_share_a_transaction_and_each_gets_its_ids(
    database: Database, database_url: str, cache_bytes: int
) -> None:
    one = resolver(database, cache_bytes)

    first, second, third, again = await asyncio.gather(
        *(resolve(one, metrics) for metrics in ("a", "bc", "cd", "b"))
    )

    assert second[1] == third[0]
    assert second[0] == again[0]
    assert len({*first, *second, *third}) == 4
    assert execute(database_url, METRICS) == "a b c d"
    assert execute(database_url, TRANSACTIONS) == "2"  # the first began before the others came


async def test_series_of_one_place_get_ids_next_to_each_other(
    database: Database, database_url: str
) -> None:
    hosts = [f"host-{number % 20}" for number in range(200)]
    names = [named("up", host=host, n=str(number)) for number, host in enumerate(hosts)]

    await resolver(database).resolve(SPACE, dict(zip(range(200), names, strict=True)))

    in_order = "SELECT string_agg(labels ->> 'host', ' ' ORDER BY id >> 6) FROM series"
    told = execute(database_url, in_order).split()
    assert [host for host, _ in groupby(told)] == list(dict.fromkeys(told))
    assert sorted(told) == sorted(hosts)


TOLD = """
SELECT string_agg(id || ' ' || metric || ' ' || (labels ->> 'path'), '|' ORDER BY id) FROM series
"""


async def test_names_of_any_characters_are_stored_and_found_again(
    database: Database, database_url: str
) -> None:
    paths = ["a,b", "{c}", 'd"e', "f\\g", "h\ni", "\u2028", "größe", "\x85", "\x1f", "'", "NULL"]
    names: dict[Hashable, SeriesName] = {path: named("http.größe", path=path) for path in paths}
    names["again"] = named("http.größe", path="a,b")  # another key of the first series

    ids = await resolver(database).resolve(SPACE, names)
    found = await resolver(database).resolve(SPACE, names)

    told = sorted((ids[path], f"{ids[path]} http.größe {path}") for path in paths)
    assert execute(database_url, TOLD) == "|".join(text for _, text in told)
    assert found == ids
    assert ids["again"] == ids["a,b"]


async def test_a_metric_that_no_format_allows_is_not_taken_for_two(
    database: Database, database_url: str
) -> None:
    names: dict[Hashable, SeriesName] = {metric: named(metric) for metric in ("a\nb", "c")}

    with pytest.raises(asyncpg.NotNullViolationError):
        await resolver(database).resolve(SPACE, names)

    assert execute(database_url, "SELECT count(*) FROM series") == "0"


async def test_names_are_looked_up_alone_before_postgresql_has_counted_the_series(
    database: Database,
) -> None:
    names = [named("up", n=str(number)) for number in range(5_000)]
    async with database.writing() as connection:
        ids = await SeriesRepository(connection, 1).resolve(names)

    async with database.writing() as connection:
        await connection.execute(text("SELECT 1"))  # begins the transaction whose reads are counted
        wanted = {name.fingerprint(): name for name in names[:250]}
        found = await SeriesRepository(connection, 1).find(wanted)
        looked_at = (await connection.execute(LOOKED_AT)).scalar_one()

    assert found == dict(zip(wanted, ids, strict=False))
    assert looked_at == 250


async def test_series_of_other_tenants_or_formats_stay_apart(database: Database) -> None:
    one = resolver(database)
    format_of_theirs = KeySpace(1, "another format")

    ids = await asyncio.gather(
        resolve(one, "a"), resolve(one, "b", format_of_theirs), resolve(one, "ab")
    )

    assert ids[2] == [ids[0][0], ids[1][0]]


async def test_a_cancelled_request_affects_no_other_and_leaves_nothing(
    database: Database, database_url: str
) -> None:
    one = resolver(database)
    tasks = [asyncio.ensure_future(resolve(one, metric)) for metric in "abcd"]
    await asyncio.sleep(0)  # the first is at work now, the others wait
    tasks[0].cancel()
    tasks[2].cancel()

    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(one, asyncio.CancelledError) for one in done] == [True, False, True, False]
    assert execute(database_url, METRICS) == "b d"


async def test_tenants_take_turns_with_one_that_creates_many_series(database: Database) -> None:
    one = resolver(database)
    other_tenant = KeySpace((await create_tenant(database, "other", TESTS)).id, "some format")
    flood = asyncio.ensure_future(resolve(one, list(map(str, range(5_000)))))
    await asyncio.sleep(0)  # it is at work now

    await resolve(one, "a", other_tenant)

    assert not flood.done()
    assert len(set(await flood)) == 5_000


DEADLOCKS_AT_ONCE = """
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = %L', current_database(), '10ms');
END $$
"""
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_a_deadlock_with_a_server_of_another_version_is_retried(
    database: Database, database_url: str
) -> None:
    """A server of another version has the last and wants the first; we have the first."""
    execute(database_url, DEADLOCKS_AT_ONCE)
    names = sorted(map(named, "abc"), key=lambda one: (one.shard(), one.place()))
    first, middle, last = names

    async def are_waiting(number: int) -> bool:
        return execute(database_url, WAITING) == str(number)

    async with database.writing() as theirs:
        await theirs.execute(text("SET LOCAL deadlock_timeout = '10min'"))  # it is us who give in
        others = SeriesRepository(theirs, SPACE.tenant_id)
        made = await others.resolve([last])
        async with database.writing() as between:
            await between.execute(text("SELECT 1"))  # begins the transaction
            await SeriesRepository(between, SPACE.tenant_id).resolve([middle])
            ours = asyncio.ensure_future(resolve(resolver(database), [one.metric for one in names]))
            await until(lambda: are_waiting(1))
            made_first = asyncio.ensure_future(others.resolve([first]))
            await until(lambda: are_waiting(2))
        made += await made_first

    ids = await ours
    assert [ids[2], ids[0]] == made
    assert len(set(ids)) == 3

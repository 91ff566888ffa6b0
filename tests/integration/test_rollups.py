"""Rollups say the same as the samples, whatever is merged, late, or gone already."""

import math
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient
from pushing import push, series
from query_plans import nodes
from sqlalchemy import text
from stored import STALE, Told, named, store

from infrawatch.model.timerange import from_us, now_us
from infrawatch.query import plan as query_plan
from infrawatch.store.database import Database
from infrawatch.store.partitions import CHUNKS, ROLLUPS, PartitionRepository
from infrawatch.store.rollups.buckets import FIVE_MINUTES, HOUR
from infrawatch.telemetry import Telemetry
from infrawatch.upkeep import compaction
from infrawatch.upkeep.retention import drop, retain
from infrawatch.upkeep.scheduler import Scheduler

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
END_US = now_us() // DAY_US * DAY_US
START_US = END_US - 2 * DAY_US
FUNCTIONS = ("avg", "sum", "min", "max", "count", "last")
NAMES = [named("m", host=host) for host in "abcd"]

_VIEW = """
SELECT labels ->> 'host', (extract(epoch FROM at) * 1000000)::bigint, count, sum, min, max, last
FROM rollup_{name} WHERE metric = 'm' ORDER BY 1, 2
"""


async def close(database: Database) -> None:
    await compaction.compact_until(database, from_us(now_us()))
    await compaction.merge_until(database, compaction.EVERYTHING)


async def ask(client: AsyncClient, **parameters: str) -> Any:
    wanted = {"match": "m", "start": str(START_US // 1_000_000), **parameters}
    answer = await client.get("/v1/range", params={"end": str(END_US // 1_000_000), **wanted})
    assert answer.status_code == 200, answer.text
    return {one["labels"]["host"]: one["samples"] for one in answer.json()["series"]}


def told(chance: random.Random, *, most: int) -> Told:
    """Samples that are regular, ragged, decimal, not decimal, stale, not a number."""

    def value(host: str) -> float:
        match host:
            case "a":
                return float(chance.randrange(10**9))
            case "b":
                return round(chance.uniform(-50, 50), 2)
            case "c":
                return chance.choice((STALE, math.nan, math.inf, -0.0, 1e300, 0.1))
            case _:
                return chance.uniform(0, 1)

    return {
        name: [
            (START_US + chance.randrange(2 * DAY_US // 15_000_000) * 15_000_000, value(host))
            for _ in range(chance.randrange(most))
        ]
        for name, host in zip(NAMES, "abcd", strict=True)
    }


def assert_same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for host, samples in expected.items():
        assert [at for at, _ in found[host]] == [at for at, _ in samples]
        for (_, one), (_, other) in zip(found[host], samples, strict=True):
            is_number = isinstance(one, int | float) and isinstance(other, int | float)
            assert one == (pytest.approx(other, rel=1e-12) if is_number else other)


async def test_answers_from_rollups_are_those_of_the_samples(
    database: Database, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(5)
    await store(database, told(chance, most=4_000))
    await close(database)
    await store(database, told(chance, most=50))
    await compaction.compact_until(database, from_us(now_us()))
    await store(database, told(chance, most=20))
    ends = {"even": str(END_US // 1_000_000), "odd": str(END_US // 1_000_000 - 4_003)}
    questions = [
        {"fn": fn, "step": step, "end": end}
        for fn in FUNCTIONS
        for step in ("5m", "2h", "25m")
        for end in ends.values()
    ]
    rolled = [await ask(client, **question) for question in questions]
    monkeypatch.setattr(query_plan, "find_resolution", lambda _function, _steps: None)
    for question, found in zip(questions, rolled, strict=True):
        assert_same(found, await ask(client, **question))


@pytest.mark.parametrize("fn", FUNCTIONS)
async def test_a_span_without_samples_and_no_series_have_no_answer(
    database: Database, client: AsyncClient, fn: str
) -> None:
    await store(database, {NAMES[0]: [(END_US, 1.0)]})
    assert await ask(client, fn=fn, step="1h") == {}
    assert await ask(client, fn=fn, step="1h", by="host", across="sum") == {}
    assert await ask(client, fn=fn, step="1h", match="unheard_of") == {}


@pytest.mark.parametrize(("name", "fn_step"), [("5m", "5m"), ("1h", "1h")])
async def test_the_views_return_the_same_as_the_api(
    database: Database, client: AsyncClient, name: str, fn_step: str
) -> None:
    chance = random.Random(6)
    await store(database, told(chance, most=2_000))
    await close(database)
    await store(database, told(chance, most=30))
    await compaction.compact_until(database, from_us(now_us()))
    await store(database, told(chance, most=30))
    async with database.reading() as connection:
        rows = [tuple(row) for row in await connection.execute(text(_VIEW.format(name=name)))]
    for place, fn in enumerate(("count", "sum", "min", "max", "last"), start=2):
        answers = await ask(client, fn=fn, step=fn_step)
        found: dict[str, list[list[Any]]] = {host: [] for host in answers}
        for row in rows:
            found[row[0]].append([row[1] // 1000, _as_json(row[place])])
        assert_same(
            found,
            {host: [one for one in got if one[1] is not None] for host, got in answers.items()},
        )


_BETWEEN = "rollup_{name}_between(to_timestamp({start}), to_timestamp({end}))"


@pytest.mark.parametrize("name", ["5m", "1h"])
async def test_a_span_in_sql_has_the_buckets_that_begin_in_it_and_reads_no_more(
    database: Database, name: str
) -> None:
    chance = random.Random(8)
    await store(database, told(chance, most=2_000))
    await close(database)
    await store(database, told(chance, most=30))
    await compaction.compact_until(database, from_us(now_us()))
    await store(database, told(chance, most=30))
    old = [from_us(START_US - days * DAY_US).date() for days in (5, 100)]
    async with database.writing() as connection:
        for table in (CHUNKS, *ROLLUPS.values()):
            await PartitionRepository(connection).make(table, old)
    start_s, end_s = START_US // 1_000_000 + 36_100, START_US // 1_000_000 + 51_100
    between = _BETWEEN.format(name=name, start=start_s, end=end_s)
    columns = "series_id, at, count, sum::text, min::text, max::text, last::text"
    async with database.reading() as connection:
        found = await connection.execute(text(f"SELECT {columns} FROM {between} ORDER BY 1, 2"))
        expected = await connection.execute(
            text(f"""
            SELECT {columns} FROM rollup_{name}
            WHERE at >= to_timestamp({start_s}) AND at < to_timestamp({end_s}) ORDER BY 1, 2
            """)
        )
        rows = found.all()
        assert rows == expected.all()
        assert len(rows) > 10
        explained = await connection.execute(
            text(f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM {between} WHERE metric = 'm'")
        )
        plan_nodes = list(nodes(explained.scalar_one()[0]["Plan"]))
    names = {node.get("Relation Name", "") for node in plan_nodes}
    day = from_us(START_US).strftime("%Y%m%d")
    month = day[:6]
    assert {one for one in names if one.startswith("chunks_2")} == {f"chunks_{day}"}
    assert {one for one in names if one.startswith("rollups_")} == {f"rollups_{name}_{month}"}


def _as_json(value: float) -> object:
    if math.isnan(value):
        return "NaN"
    return ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else value


async def test_a_late_sample_repairs_its_buckets(database: Database, client: AsyncClient) -> None:
    at = [START_US + n * 60_000_000 for n in range(600)]
    await store(database, {NAMES[0]: [(one, 1.0) for one in at if one != at[7]]})
    await close(database)
    await store(database, {NAMES[0]: [(at[7], 5.0), (at[300], 3.0)]})
    for _ in range(2):
        [hours] = (await ask(client, fn="sum", step="1h")).values()
        assert [value for _, value in hours[:10]] == [64, 60, 60, 60, 60, 62, 60, 60, 60, 60]
        [fives] = (await ask(client, fn="max", step="5m")).values()
        assert [value for _, value in fives[:3]] == [1, 5, 1]
        await close(database)


async def test_a_late_sample_of_one_series_leaves_its_neighbours_in_the_row_alone(
    database: Database,
) -> None:
    """Series of one host share rows of rollups."""
    names = [named("m", host="a", path=path) for path in "pqr"]
    await store(database, {name: [(START_US, 1.0)] for name in names})
    await close(database)
    for name in names:
        await store(database, {name: [(START_US + 1, 2.0)]})
        await close(database)
    async with database.reading() as connection:
        rolled = await connection.execute(text("SELECT count FROM rollup_5m"))
        assert list(rolled.scalars()) == [2, 2, 2]


async def test_rollups_outlive_the_samples_and_late_samples_do_not_spoil_them(
    database: Database, client: AsyncClient
) -> None:
    await store(database, {NAMES[0]: [(START_US + n * 60_000_000, 1.0) for n in range(600)]})
    await close(database)
    await drop(database, CHUNKS, from_us(START_US).date())
    await store(database, {NAMES[0]: [(START_US, 9.0)]})
    await close(database)
    [hours] = (await ask(client, fn="sum", step="1h")).values()
    assert [value for _, value in hours[:11]] == [60.0] * 10 + [None]


OF_MINUTES: Mapping[str, Callable[[range], float]] = {
    "avg": lambda minutes: sum(minutes) / len(minutes),
    "sum": sum,
    "min": min,
    "max": max,
    "count": len,
    "last": lambda minutes: minutes[-1],
}


@pytest.mark.parametrize("fn", FUNCTIONS)
async def test_beyond_the_samples_any_span_is_answered_from_rollups(
    database: Database, client: AsyncClient, fn: str
) -> None:
    at = [START_US + n * 60_000_000 for n in range(2 * 24 * 60)]
    await store(database, {NAMES[0]: [(one, float(n)) for n, one in enumerate(at)]})
    await close(database)
    start_s, kept_from_s = START_US // 1_000_000, START_US // 1_000_000 + 86_400
    questions = [
        (3_600, {"fn": fn, "step": "1h", "start": str(start_s + 61)}),
        (1_020, {"fn": fn, "step": "17m", "start": str(start_s - 7)}),
        (600, {"fn": fn, "step": "10m", "end": str(start_s + 7_200)}),
    ]
    before = [(await ask(client, **question))["a"] for _, question in questions]
    await drop(database, CHUNKS, from_us(START_US).date())
    for (step_s, question), exact in zip(questions, before, strict=True):
        found = (await ask(client, **question))["a"]
        assert [at_ms for at_ms, _ in found] == [at_ms for at_ms, _ in exact]
        for (at_ms, one), (_, other) in zip(found, exact, strict=True):
            begin_s = at_ms // 1_000 - start_s
            if begin_s + start_s >= kept_from_s:
                assert one == pytest.approx(other, rel=1e-12)
            elif begin_s + step_s + start_s <= kept_from_s:
                # What begins in the step, of five minutes each.
                first, end = -(-begin_s // 300), -(-(begin_s + step_s) // 300)
                assert one == pytest.approx(OF_MINUTES[fn](range(max(first, 0) * 5, end * 5)))


@pytest.mark.parametrize(
    ("asked", "begins_ms"),
    [
        ({"start": "-9h", "step": "1h"}, 3_600_000),
        ({"start": "-9h", "step": "90m"}, 300_000),
        ({"start": "-9h", "step": "90m", "fn": "stddev"}, 1),
        ({"start": "-9h", "step": "7m"}, 1),
        ({"start": "-5h", "step": "1h"}, 1),
    ],
)
async def test_a_start_back_from_now_lies_where_a_rollup_begins_if_one_can_answer(
    client: AsyncClient, asked: dict[str, str], begins_ms: int
) -> None:
    now_ms = now_us() // 1_000
    batch = series("m", *([now_ms - n * 60_000, n] for n in range(600)))
    assert (await push(client, batch)).status_code == 200
    samples = (await ask(client, **asked, end="now"))["a"]
    begins = {time for time, _ in samples}
    assert all(begin % begins_ms == 0 for begin in begins)
    told_ms = now_ms - int(asked["start"][1:-1]) * 3_600_000
    late_ms = now_us() // 1_000 - now_ms
    assert min(begins) in range(told_ms - begins_ms + 1, told_ms + late_ms + 1)


async def test_each_resolution_has_its_own_retention(database: Database) -> None:
    old = from_us(END_US - 200 * DAY_US).date()
    async with database.writing() as connection:
        for table in ROLLUPS.values():
            await PartitionRepository(connection).make(table, [old])
    retentions = {ROLLUPS[FIVE_MINUTES]: timedelta(days=90), ROLLUPS[HOUR]: None}
    upkeep = Scheduler(
        database, Telemetry(), retentions=retentions, replay_window=timedelta(minutes=10)
    )
    await upkeep.retain()
    async with database.reading() as connection:
        partitions = PartitionRepository(connection)
        assert old.replace(day=1) not in await partitions.find(ROLLUPS[FIVE_MINUTES])
        assert old.replace(day=1) in await partitions.find(ROLLUPS[HOUR])
    await retain(database, ROLLUPS[HOUR], timedelta(days=190))
    async with database.reading() as connection:
        assert old.replace(day=1) in await PartitionRepository(connection).find(ROLLUPS[HOUR])

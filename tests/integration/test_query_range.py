"""GET /v1/range, against straightforward Python."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from httpx import AsyncClient
from stored import STALE, named, store

from infrawatch.model.samples import STALE_NAN_BITS
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository

SECOND = 1_000_000
START = 1_790_000_000
STEP = 30
STEPS = 8
SPAN: dict[str, Any] = {
    "start": START,
    "end": START + STEP * STEPS,
    "step": f"{STEP}s",
    "precision": "s",
}

Value = float | str | None
Samples = Sequence[tuple[int, float]]


async def ask(client: AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/range", params={"match": "up", **SPAN, **parameters})
    assert answer.status_code == 200, answer.text
    series: list[dict[str, Any]] = answer.json()["series"]
    return series


def quantile(fraction: float) -> Callable[[list[float]], float]:
    def compute(values: list[float]) -> float:
        ordered = sorted(values)
        rank = fraction * (len(ordered) - 1)
        low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
        return low + (high - low) * (rank - math.floor(rank))

    return compute


PLAIN: Mapping[str, Callable[[list[float]], float]] = {
    "avg": statistics.fmean,
    "min": min,
    "max": max,
    "sum": math.fsum,
    "count": len,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "p50": quantile(0.5),
    "p90": quantile(0.9),
    "p95": quantile(0.95),
    "p99": quantile(0.99),
    "stddev": statistics.pstdev,
}


def in_steps(samples: Samples) -> list[list[float]]:
    """The values that fall into each step, in order of time."""
    steps: list[list[float]] = [[] for _ in range(STEPS)]
    for time_us, value in sorted(dict(samples).items()):
        step = (time_us - START * SECOND) // (STEP * SECOND)
        if 0 <= step < STEPS:
            steps[step].append(value)
    return steps


def gains(samples: Samples) -> list[tuple[float, float]]:
    """Per step what a counter gained, and the seconds from the sample before it to its last."""
    ordered = sorted(dict(samples).items())
    found = [(0.0, 0.0)] * STEPS
    for (before_us, before), (time_us, value) in pairwise(ordered):
        step = (time_us - START * SECOND) // (STEP * SECOND)
        if 0 <= step < STEPS:
            amount = value if value < before else value - before
            gained, seconds = found[step]
            found[step] = (gained + amount, seconds + (time_us - before_us) / SECOND)
    return found


def random_history(random: np.random.Generator) -> Samples:
    """Samples before, within and after the span, in disorder and with corrections."""
    times = random.integers(START - 2 * STEP, START + STEP * (STEPS + 1), 60)
    return [(int(time) * SECOND, float(random.normal(100, 30))) for time in times]


def random_counter(random: np.random.Generator) -> Samples:
    """A counter that starts again from 0 now and then, and is not heard of for whole steps."""
    told, value = [], 0.0
    for time in range(START - 2 * STEP, START + STEP * (STEPS + 1), 7):
        value = 0.0 if random.random() < 0.1 else value + int(random.integers(0, 50))
        if random.random() < 0.6:
            told.append((time * SECOND, value))
    return told


def assert_answers(found: Sequence[Sequence[Any]], expected: Sequence[float | None]) -> None:
    assert [time for time, _ in found] == [START + STEP * n for n in range(STEPS)]
    for (_, value), wanted in zip(found, expected, strict=True):
        assert (value is None) == (wanted is None)
        if wanted is not None:
            assert value == pytest.approx(wanted, rel=1e-12, abs=1e-9)


@pytest.fixture
async def histories(database: Database) -> dict[str, Samples]:
    """Random samples of six series, by the id that answers call them."""
    random = np.random.default_rng(11)
    told = {named("up", host=f"h{n % 3}", disk=f"d{n}"): random_history(random) for n in range(6)}
    ids = await store(database, told)
    return {str(ids[name]): samples for name, samples in told.items()}


async def test_every_function_computes_what_plain_python_does(
    client: AsyncClient, histories: dict[str, Samples]
) -> None:
    for function, compute in PLAIN.items():
        answer = await ask(client, fn=function)

        assert [one["id"] for one in answer] == sorted(histories, key=int)
        for one in answer:
            steps = in_steps(histories[one["id"]])
            assert_answers(one["samples"], [compute(step) if step else None for step in steps])


async def test_counters_gain_what_plain_python_counts(
    client: AsyncClient, database: Database
) -> None:
    random = np.random.default_rng(5)
    told = {named("up", host=f"h{n}"): random_counter(random) for n in range(6)}
    ids = {str(series_id): name for name, series_id in (await store(database, told)).items()}

    for one in await ask(client, fn="increase"):
        expected = [gain if seconds else None for gain, seconds in gains(told[ids[one["id"]]])]
        assert_answers(one["samples"], expected)
    for one in await ask(client, fn="rate"):
        found = gains(told[ids[one["id"]]])
        assert_answers(
            one["samples"], [gain / seconds if seconds else None for gain, seconds in found]
        )


async def test_a_counter_that_reports_differences_is_summed(
    client: AsyncClient, database: Database
) -> None:
    told = [((START + 10 * n) * SECOND, 5.0) for n in range(3 * STEPS)]
    await store(database, {named("up"): told})
    async with database.writing() as connection:
        await MetadataRepository(connection, 1).put(
            {"up": Metadata("counter", temporality="delta")}
        )

    [increase] = await ask(client, fn="increase")
    [rate] = await ask(client, fn="rate")

    assert_answers(increase["samples"], [15.0] * STEPS)
    assert_answers(rate["samples"], [0.5] * STEPS)


@pytest.mark.parametrize("across", ["sum", "avg", "min", "max", "count"])
async def test_groups_combine_the_values_of_their_series(
    client: AsyncClient, database: Database, across: str
) -> None:
    random = np.random.default_rng(23)
    told = {named("up", host=f"h{n % 3}", disk=f"d{n}"): random_history(random) for n in range(7)}
    await store(database, told)

    by_host = await ask(client, fn="max", by="host", across=across)
    as_one = await ask(client, fn="max", across=across)

    assert [one["labels"] for one in by_host] == [{"host": f"h{n}"} for n in range(3)]
    assert [one["labels"] for one in as_one] == [{}]
    for one in (*by_host, *as_one):
        assert (one["id"], one["metric"]) == (None, "up")
        members = [
            [max(step) if step else None for step in in_steps(samples)]
            for name, samples in told.items()
            if one["labels"].items() <= dict(name.labels).items()
        ]
        assert_answers(
            one["samples"], [combined(step, across) for step in zip(*members, strict=True)]
        )


def combined(values: Sequence[float | None], across: str) -> float | None:
    there = [value for value in values if value is not None]
    return PLAIN[across](there) if there else None


async def test_by_alone_sums(client: AsyncClient, histories: dict[str, Samples]) -> None:
    assert len(histories) == 6
    assert await ask(client, by="host") == await ask(client, by="host", across="sum")


async def test_groups_are_named_by_what_their_series_share(
    client: AsyncClient, database: Database
) -> None:
    sample = [(START * SECOND, 1.0)]
    await store(
        database,
        {
            named("load", host="a", env="live"): sample,
            named("load", host="b", env="live"): sample,
            named("memory", host="a"): sample,
        },
    )

    async def groups(by: str) -> list[tuple[str | None, dict[str, str], float]]:
        answer = await ask(client, match='{host=~".+"}', by=by)
        return [(one["metric"], one["labels"], one["samples"][0][1]) for one in answer]

    assert await groups("host") == [(None, {"host": "a"}, 2.0), ("load", {"host": "b"}, 1.0)]
    assert await groups("env") == [("memory", {}, 1.0), ("load", {"env": "live"}, 2.0)]
    assert await groups("__name__") == [
        ("load", {"__name__": "load"}, 2.0),
        ("memory", {"__name__": "memory"}, 1.0),
    ]
    assert await groups(" env , host,env") == [
        ("memory", {"host": "a"}, 1.0),
        ("load", {"env": "live", "host": "a"}, 1.0),
        ("load", {"env": "live", "host": "b"}, 1.0),
    ]


async def test_stale_markers_are_no_samples_and_nan_propagates(
    client: AsyncClient, database: Database
) -> None:
    first = START * SECOND
    told = [(first, 1.0), (first + 1, STALE), (first + STEP * SECOND, math.nan)]
    await store(database, {named("up"): [*told, (first + STEP * SECOND + 1, 2.0)]})

    [counts] = await ask(client, fn="count", end=START + 3 * STEP)
    [sums] = await ask(client, fn="sum", end=START + 3 * STEP)

    assert [value for _, value in counts["samples"]] == [1.0, 2.0, None]
    assert [value for _, value in sums["samples"]] == [1.0, "NaN", None]


async def test_a_series_of_nothing_but_stale_markers_is_left_out(
    client: AsyncClient, database: Database
) -> None:
    assert np.array(STALE).view(np.int64) == STALE_NAN_BITS
    await store(database, {named("up"): [(START * SECOND, STALE)]})

    assert await ask(client) == []


async def test_the_last_step_ends_where_the_span_ends(
    client: AsyncClient, database: Database
) -> None:
    told = [((START + second) * SECOND, 1.0) for second in range(100)]
    await store(database, {named("up"): told})

    [one] = await ask(client, fn="count", end=START + 75)

    assert one["samples"] == [[START, 30.0], [START + 30, 30.0], [START + 60, 15.0]]


async def test_a_step_longer_than_history_gives_one_answer(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up"): [((START + n) * SECOND, float(n)) for n in range(3)]})

    for function, expected in {"sum": 3.0, "increase": 2.0, "rate": 1.0}.items():
        [one] = await ask(client, fn=function, step="9999y")

        assert one["samples"] == [[START, expected]]


async def test_an_empty_span_has_no_steps(client: AsyncClient, database: Database) -> None:
    await store(database, {named("up"): [(START * SECOND, 1.0)]})

    assert await ask(client, end=START) == []


async def test_an_inconsistent_query_is_refused(client: AsyncClient) -> None:
    wrong = [
        ({"step": "0"}, "invalid_time"),
        ({"step": "0.0001"}, "invalid_time"),
        ({"step": "-1m"}, "invalid_time"),
        ({"step": "1 minute"}, "invalid_time"),
        ({"fn": "median"}, "invalid_input"),
        ({"across": "product"}, "invalid_input"),
        ({"precision": "m"}, "invalid_input"),
    ]
    for parameters, code in wrong:
        answer = await client.get("/v1/range", params={"match": "up", **SPAN, **parameters})

        assert answer.status_code == 422, parameters
        assert answer.json()["code"] == code


def test_the_reference_of_this_file_counts_resets() -> None:
    told = [((START + n) * SECOND, value) for n, value in enumerate((5.0, 8.0, 2.0, 2.0))]

    assert gains(told)[0] == (5.0, 3.0)

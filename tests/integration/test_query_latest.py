"""GET /v1/latest."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import AsyncClient
from integration.conftest import serving
from stored import STALE, named, store

from infrawatch.store.database import Database

SECOND = 1_000_000
MINUTE = 60 * SECOND


@pytest.fixture
def now() -> int:
    """Some seconds ago, in µs: whole milliseconds, and surely in the past."""
    return int(datetime.now(UTC).timestamp() - 5) * SECOND


async def latest(client: AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/latest", params={"match": "up", **parameters})
    assert answer.status_code == 200, answer.text
    series: list[dict[str, Any]] = answer.json()["series"]
    return series


async def test_the_last_sample_of_each_series_comes_with_its_time(
    client: AsyncClient, database: Database, now: int
) -> None:
    a, b = named("up", host="a"), named("up", host="b")
    ids = await store(database, {a: [(now, 3.5), (now - SECOND, 1.0)], b: [(now - MINUTE, 2.0)]})

    answer = await client.get("/v1/latest", params={"match": "up"})

    shown = [
        {"id": str(ids[a]), "metric": "up", "labels": {"host": "a"}, "time": now // 1000}
        | {"value": 3.5},
        {"id": str(ids[b]), "metric": "up", "labels": {"host": "b"}, "time": (now - MINUTE) // 1000}
        | {"value": 2.0},
    ]
    assert answer.json() == {"series": sorted(shown, key=lambda one: int(str(one["id"])))}


async def test_a_series_without_samples_within_max_age_is_left_out(
    client: AsyncClient, database: Database, now: int
) -> None:
    await store(database, {named("up"): [(now - 10 * MINUTE, 1.0)]})

    assert await latest(client) == []  # five minutes
    assert await latest(client, max_age="9m") == []
    assert [one["value"] for one in await latest(client, max_age="11m")] == [1.0]


async def test_with_all_samples_of_any_age_are_returned(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up"): [(SECOND, 1.0)]})

    [series] = await latest(client, max_age="all")

    assert (series["time"], series["value"]) == (1000, 1.0)


async def test_a_series_that_ended_is_left_out_until_it_begins_again(
    client: AsyncClient, database: Database, now: int
) -> None:
    await store(database, {named("up"): [(now - 2 * SECOND, 1.0), (now - SECOND, STALE)]})
    assert await latest(client) == []

    await store(database, {named("up"): [(now, 2.0)]})
    assert [one["value"] for one in await latest(client)] == [2.0]


async def test_the_later_arrival_of_two_samples_at_one_time_is_shown(
    client: AsyncClient, database: Database, now: int
) -> None:
    for value in (1.0, 3.0, 2.0):
        await store(database, {named("up"): [(now, value), (now - SECOND, 9.0)]})

    assert [one["value"] for one in await latest(client)] == [2.0]


async def test_a_stale_marker_that_arrives_late_does_not_end_a_series(
    client: AsyncClient, database: Database, now: int
) -> None:
    await store(database, {named("up"): [(now, 1.0)]})
    await store(database, {named("up"): [(now - SECOND, STALE)]})

    assert [one["value"] for one in await latest(client)] == [1.0]


async def test_values_json_has_no_numbers_for_come_as_text(
    client: AsyncClient, database: Database, now: int
) -> None:
    shown = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0}
    await store(database, {named("up", host=host): [(now, shown[host])] for host in shown})

    found = {one["labels"]["host"]: repr(one["value"]) for one in await latest(client)}

    assert found == {"a": "'NaN'", "b": "'+Inf'", "c": "'-Inf'", "d": "-0.0"}


async def test_times_come_in_the_precision_asked_for(
    client: AsyncClient, database: Database, now: int
) -> None:
    await store(database, {named("up"): [(now + 123_456, 1.0)]})

    found = {one: (await latest(client, precision=one))[0]["time"] for one in ("s", "us", "ns")}

    assert found == {"s": now // SECOND, "us": now + 123_456, "ns": (now + 123_456) * 1000}


async def test_a_long_history_is_no_reason_to_refuse_its_end(
    database_url: str, database: Database, now: int
) -> None:
    samples = [(now - n * SECOND, float(n)) for n in range(5_000)]
    await store(database, {named("up"): samples})

    async with (
        serving(database_url, read_max_samples=1_000) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        [series] = await latest(client, max_age="all")

    assert (series["time"], series["value"]) == (now // 1000, 0.0)


async def test_an_age_that_is_none_is_refused_by_its_name(client: AsyncClient) -> None:
    for max_age in ("", "0", "0s", "-5m", "5 minutes", "never", "9" * 13 + "y"):
        answer = await client.get("/v1/latest", params={"match": "up", "max_age": max_age})

        assert answer.status_code == 422, max_age
        assert answer.json()["code"] == "invalid_time"
        assert "max_age" in answer.json()["detail"]


async def test_an_age_is_a_duration_or_a_number_of_seconds(client: AsyncClient) -> None:
    for max_age in ("1", "0.5", "1h30m", "15d", "999999y"):
        assert await latest(client, max_age=max_age) == []

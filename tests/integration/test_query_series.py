"""GET /v1/series, /v1/labels, /v1/labels/{name}/values, /v1/metadata."""

from typing import Any

import pytest
from httpx import AsyncClient
from stored import named, store

from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository

SECOND = 1_000_000
NOON_US = 1_790_000_000 * SECOND


@pytest.fixture
async def machines(database: Database) -> None:
    """Three series of loads, one of memory; two hosts."""
    await store(
        database,
        {
            named("node_load1", host="a", env="live"): [(NOON_US, 1.0), (NOON_US + SECOND, 2.0)],
            named("node_load1", host="b", env="test"): [(NOON_US, 3.0)],
            named("node_load5", host="a"): [(NOON_US, 4.0)],
            named("node_memory_MemFree_bytes", host="b"): [(NOON_US, 5.0)],
        },
    )


async def test_series_are_listed_with_the_times_of_their_first_and_last_sample(
    client: AsyncClient, database: Database
) -> None:
    samples = [(NOON_US + 5 * SECOND, 1.0), (NOON_US, 2.0), (NOON_US + SECOND, 3.0)]
    series_id = (await store(database, {named("up", host="a"): samples}))[named("up", host="a")]

    answer = await client.get("/v1/series", params={"match": "up"})

    assert answer.status_code == 200
    assert answer.json() == {
        "series": [
            {
                "id": str(series_id),
                "metric": "up",
                "labels": {"host": "a"},
                "first_time": NOON_US // 1000,
                "last_time": NOON_US // 1000 + 5000,
            }
        ],
        "next_cursor": None,
    }


async def test_a_series_without_samples_has_no_first_and_last_time(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up"): []})

    [series] = (await client.get("/v1/series", params={"match": "up"})).json()["series"]

    assert (series["first_time"], series["last_time"]) == (None, None)


async def test_times_come_in_the_precision_asked_for(
    client: AsyncClient, database: Database
) -> None:
    await store(database, {named("up"): [(NOON_US + 123_456, 1.0)]})

    for precision, first_time in {
        "s": 1_790_000_000,
        "ms": 1_790_000_000_123,
        "us": 1_790_000_000_123_456,
        "ns": 1_790_000_000_123_456_000,
    }.items():
        answer = await client.get("/v1/series", params={"match": "up", "precision": precision})

        assert answer.json()["series"][0]["first_time"] == first_time


async def test_pages_hold_every_series_once_in_order(
    client: AsyncClient, database: Database
) -> None:
    ids = await store(database, {named("up", host=f"h{n}"): [(NOON_US, 1.0)] for n in range(24)})

    for limit in (1, 7, 8, 23, 24):
        seen: list[int] = []
        parameters: dict[str, Any] = {"match": "up", "limit": limit}
        while True:
            page = (await client.get("/v1/series", params=parameters)).json()
            assert 0 < len(page["series"]) <= limit
            seen += [int(one["id"]) for one in page["series"]]
            if page["next_cursor"] is None:
                break
            parameters["cursor"] = page["next_cursor"]

        assert seen == sorted(ids.values())


async def test_paging_works_with_a_regular_expression_too(
    client: AsyncClient, database: Database
) -> None:
    ids = await store(database, {named("up", host=f"h{n}"): [] for n in range(30)})
    wanted = sorted(series_id for name, series_id in ids.items() if "1" in name.labels[0][1])

    match: dict[str, Any] = {"match": 'up{host=~"h.*1.*"}', "limit": 8}
    first = (await client.get("/v1/series", params=match)).json()
    second = (
        await client.get("/v1/series", params={**match, "cursor": first["next_cursor"]})
    ).json()

    assert [int(one["id"]) for one in first["series"] + second["series"]] == wanted
    assert second["next_cursor"] is None


async def test_an_unknown_page_cursor_is_refused(client: AsyncClient) -> None:
    for cursor in ("page2", "-1", "1.5", "9" * 30, "9" * 5_000, "٣", ""):
        answer = await client.get("/v1/series", params={"match": "up", "cursor": cursor})

        assert answer.status_code == 422, cursor
        assert answer.json()["code"] == "invalid_cursor"


@pytest.mark.usefixtures("machines")
async def test_label_names_come_with_how_many_series_have_them(client: AsyncClient) -> None:
    assert (await client.get("/v1/labels")).json() == {
        "labels": [
            {"name": "__name__", "series": 4},
            {"name": "env", "series": 2},
            {"name": "host", "series": 4},
        ]
    }
    assert (await client.get("/v1/labels", params={"match": "{host='b'}"})).json() == {
        "labels": [
            {"name": "__name__", "series": 2},
            {"name": "env", "series": 1},
            {"name": "host", "series": 2},
        ]
    }


@pytest.mark.usefixtures("machines")
async def test_label_values_come_in_order_with_how_many_series_have_them(
    client: AsyncClient,
) -> None:
    assert (await client.get("/v1/labels/host/values")).json() == {
        "values": [{"value": "a", "series": 2}, {"value": "b", "series": 2}]
    }
    assert (await client.get("/v1/labels/env/values", params={"match": "{host='b'}"})).json() == {
        "values": [{"value": "test", "series": 1}]
    }
    assert (await client.get("/v1/labels/nothing/values")).json() == {"values": []}


@pytest.mark.usefixtures("machines")
async def test_metrics_are_the_values_of_the_label_name(client: AsyncClient) -> None:
    for parameters in ({}, {"match": '{host=~".+"}'}):
        answer = await client.get("/v1/labels/__name__/values", params=parameters)

        assert answer.json()["values"] == [
            {"value": "node_load1", "series": 2},
            {"value": "node_load5", "series": 1},
            {"value": "node_memory_MemFree_bytes", "series": 1},
        ]


@pytest.mark.parametrize("match", [None, "up"])
async def test_values_come_in_the_same_order_with_and_without_a_selector(
    client: AsyncClient, database: Database, match: str | None
) -> None:
    values = ["Z", "a", "é", "B", "~", "𝄞", "\ue000"]
    await store(database, {named("up", host=value): [] for value in values})
    parameters = {} if match is None else {"match": match}

    answer = await client.get("/v1/labels/host/values", params={**parameters, "limit": 6})

    assert [one["value"] for one in answer.json()["values"]] == sorted(values)[:6]


async def test_labels_of_any_utf_8_name_can_be_asked_for(
    client: AsyncClient, database: Database
) -> None:
    for name in ("service.name", "k8s.io/name", "größe"):
        await store(database, {named("up", **{name: "x"}): []})

        url = client.base_url.copy_with(path=f"/v1/labels/{name}/values")
        answer = await client.get(url)

        assert answer.json() == {"values": [{"value": "x", "series": 1}]}


async def test_metadata_comes_by_metric(client: AsyncClient, database: Database) -> None:
    async with database.writing() as connection:
        await MetadataRepository(connection, 1).put(
            {
                "jobs_total": Metadata("counter", "1", "Jobs done.", "delta"),
                "node_load1": Metadata("gauge"),
            }
        )
    jobs = {"type": "counter", "unit": "1", "help": "Jobs done.", "temporality": "delta"}
    load = {"type": "gauge", "unit": "", "help": "", "temporality": "cumulative"}

    every = await client.get("/v1/metadata")
    one = await client.get("/v1/metadata", params={"metric": "jobs_total"})
    none = await client.get("/v1/metadata", params={"metric": "no_such_metric"})

    assert every.json() == {"metadata": {"jobs_total": jobs, "node_load1": load}}
    assert one.json() == {"metadata": {"jobs_total": jobs}}
    assert none.json() == {"metadata": {}}


async def test_a_parameter_that_does_not_fit_is_named(client: AsyncClient) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/series", {}, "match"),
        ("/v1/series", {"match": "up", "limit": 0}, "limit"),
        ("/v1/series", {"match": "up", "limit": 10_001}, "limit"),
        ("/v1/series", {"match": "up", "precision": "h"}, "precision"),
        ("/v1/labels/host/values", {"limit": "many"}, "limit"),
        ("/v1/metadata", {"metric": "\0"}, "metric"),
    ]
    for path, parameters, name in wrong:
        answer = await client.get(path, params=parameters)

        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert [one["parameter"] for one in answer.json()["errors"]] == [name]


async def test_a_nul_reaches_no_database(client: AsyncClient) -> None:
    for path in ("/v1/labels/a%00b/values", "/v1/series?match=%7Ba%3D%22%00%22%7D"):
        assert (await client.get(path)).status_code == 422


async def test_a_prometheus_client_gets_the_version_of_the_api(client: AsyncClient) -> None:
    answer = await client.get("/api/v1/status/buildinfo")
    assert answer.json()["status"] == "success"
    assert answer.json()["data"]["version"] == "2.45.0"

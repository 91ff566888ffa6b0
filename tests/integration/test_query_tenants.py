"""No query shows data of another tenant."""

from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import text
from stored import named, store

from infrawatch.model.labels import SeriesName
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository

OTHER_TENANT_ID = 7
SECRET = "secret"

# Same metric and label, so that a selector of ours means theirs too; and one that is theirs alone.
OURS = named("up", host="a")
THEIRS = named("up", host="a", place=SECRET)
THEIRS_ALONE = SeriesName.of(f"{SECRET}_total", {SECRET: SECRET})

READS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/series", {"match": '{__name__=~".+"}'}),
    ("/v1/series", {"match": "up"}),
    ("/v1/series", {"match": '{host="a"}'}),
    ("/v1/labels", {}),
    ("/v1/labels", {"match": '{host=~".*",__name__!=""}'}),
    ("/v1/labels/__name__/values", {}),
    ("/v1/labels/place/values", {}),
    ("/v1/labels/place/values", {"match": "up"}),
    ("/v1/metadata", {}),
    ("/v1/metadata", {"metric": THEIRS_ALONE.metric}),
    ("/v1/latest", {"match": '{__name__=~".+"}', "max_age": "all"}),
    ("/v1/samples", {"match": '{__name__=~".+"}', "start": 0}),
    ("/v1/samples", {"match": THEIRS_ALONE.metric, "start": 0}),
    ("/v1/range", {"match": '{__name__=~".+"}'}),
    ("/v1/range", {"match": '{__name__=~".+"}', "fn": "count", "across": "count"}),
]


@pytest.fixture
async def neighbours(database: Database) -> None:
    """Two tenants with samples at the same instant."""
    async with database.writing() as connection:
        await connection.execute(
            text("INSERT INTO tenants (id, name) VALUES (:id, 'other')"), {"id": OTHER_TENANT_ID}
        )
        metadata = MetadataRepository(connection, OTHER_TENANT_ID)
        await metadata.put(
            {"up": Metadata(help=SECRET), THEIRS_ALONE.metric: Metadata(help=SECRET)}
        )
    samples = [(int(datetime.now(UTC).timestamp()) * 1_000_000, 1.0)]
    await store(database, {OURS: samples})
    await store(database, {THEIRS: samples, THEIRS_ALONE: samples}, tenant_id=OTHER_TENANT_ID)


@pytest.mark.usefixtures("neighbours")
async def test_no_answer_reveals_data_of_another_tenant(client: AsyncClient) -> None:
    for path, parameters in READS:
        answer = await client.get(path, params=parameters)

        assert answer.status_code == 200, answer.text
        assert SECRET not in answer.text, path


@pytest.mark.usefixtures("neighbours")
async def test_another_tenants_series_are_counted_nowhere(client: AsyncClient) -> None:
    labels = (await client.get("/v1/labels")).json()
    names = (await client.get("/v1/labels/__name__/values")).json()
    parameters = {"match": '{__name__=~".+"}', "fn": "count", "across": "count", "step": "1h"}
    [group] = (await client.get("/v1/range", params=parameters)).json()["series"]

    assert labels == {"labels": [{"name": one, "series": 1} for one in ("__name__", "host")]}
    assert names == {"values": [{"value": "up", "series": 1}]}
    assert [value for _, value in group["samples"]] == [1.0]


@pytest.mark.usefixtures("neighbours")
async def test_the_same_name_is_another_series_for_another_tenant(
    client: AsyncClient, database: Database
) -> None:
    samples = [(int(datetime.now(UTC).timestamp()) * 1_000_000, 99.0)]
    [theirs] = (await store(database, {OURS: samples}, tenant_id=OTHER_TENANT_ID)).values()

    answer = await client.get("/v1/latest", params={"match": "up"})

    [ours] = answer.json()["series"]
    assert (ours["id"] != str(theirs), ours["value"]) == (True, 1.0)


@pytest.mark.usefixtures("neighbours")
async def test_csv_and_ndjson_keep_the_secret_too(client: AsyncClient) -> None:
    for accept in ("text/csv", "application/x-ndjson"):
        answer = await client.get(
            "/v1/samples",
            params={"match": '{host=~".*",__name__=~".+"}', "start": 0},
            headers={"Accept": accept},
        )

        assert SECRET not in answer.text
        assert "up" in answer.text
        assert "1.0" in answer.text

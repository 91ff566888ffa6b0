"""The OpenAPI document says of reads what they answer."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import AsyncClient
from pydantic import BaseModel
from stored import STALE, named, store

from infrawatch.query import schemas
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository

READS: dict[str, tuple[dict[str, Any], type[BaseModel]]] = {
    "/v1/series": ({"match": "up"}, schemas.SeriesPage),
    "/v1/labels": ({}, schemas.LabelNames),
    "/v1/labels/host/values": ({}, schemas.LabelValues),
    "/v1/metadata": ({}, schemas.MetadataOut),
    "/v1/latest": ({"match": "up"}, schemas.Latest),
    "/v1/samples": ({"match": "up"}, schemas.Samples),
    "/v1/range": ({"match": "up"}, schemas.RangeOut),
}


@pytest.fixture
async def document(client: AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/openapi.json")).json()
    return found


async def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))

    assert referred
    assert referred <= document["components"]["schemas"].keys()


async def test_every_read_says_how_it_refuses(document: dict[str, Any]) -> None:
    for path in READS:
        responses = document["paths"][path.replace("host", "{name}")]["get"]["responses"]

        for status in ("422", "503"):
            content = responses[status]["content"]
            assert list(content) == ["application/problem+json"]
        assert "application/json" in responses["200"]["content"]
    formats = document["paths"]["/v1/samples"]["get"]["responses"]["200"]["content"]
    assert list(formats) == ["application/json", "application/x-ndjson", "text/csv"]


async def test_every_answer_is_of_the_shape_that_is_described(
    client: AsyncClient, database: Database, document: dict[str, Any]
) -> None:
    now_us = int(datetime.now(UTC).timestamp() - 60) * 1_000_000
    values = (1.5, math.nan, math.inf, STALE, 2.0)
    told = [(now_us + n * 1_000_000, value) for n, value in enumerate(values)]
    await store(database, {named("up", host="a"): told, named("up", host="b"): []})
    async with database.writing() as connection:
        await MetadataRepository(connection, 1).put({"up": Metadata("gauge")})

    for path, (parameters, model) in READS.items():
        answer = await client.get(path, params=parameters)

        assert answer.status_code == 200
        read = model.model_validate_json(answer.content, strict=True)
        assert read.model_dump(mode="json") == answer.json()
        assert len(answer.content) > len('{"series":[]}')
        described = document["paths"][path.replace("host", "{name}")]["get"]["responses"]["200"]
        reference = described["content"]["application/json"]["schema"]["$ref"]
        assert reference.rpartition("/")[2] == model.__name__

"""The OpenAPI document describes the responses of queries."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import AsyncClient, Response
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


async def test_every_read_documents_its_refusals(document: dict[str, Any]) -> None:
    for path in READS:
        responses = document["paths"][path.replace("host", "{name}")]["get"]["responses"]

        for status in ("422", "503"):
            content = responses[status]["content"]
            assert list(content) == ["application/problem+json"]
        assert "application/json" in responses["200"]["content"]
    formats = document["paths"]["/v1/samples"]["get"]["responses"]["200"]["content"]
    assert list(formats) == ["application/json", "application/x-ndjson", "text/csv"]


async def test_every_answer_has_its_documented_shape(
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


async def test_examples_offered_for_trying_out_are_answered(
    client: AsyncClient, document: dict[str, Any]
) -> None:
    tried = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = await _try_out(client, method, path, operation, document)
            if answer is None:
                continue
            tried += 1
            if "2" in {status[0] for status in operation["responses"]}:
                assert answer.is_success, f"{method} {path}: {answer.text}"
    assert tried > 40


UNTRIED = re.compile(r"/live|/v1/(session|keys|limits)|/api/v1/write|/tickets")
"""Those that do not end, that change who may do what, and one whose bodies are binary."""


async def _try_out(
    client: AsyncClient, method: str, path: str, operation: dict[str, Any], document: dict[str, Any]
) -> Response | None:
    if UNTRIED.search(path):
        return None
    told = {one["name"]: _example(one, document) for one in operation.get("parameters", [])}
    where = re.sub(r"{(\w+)}", lambda found: str(told.pop(found[1])), path)
    asked: dict[str, Any] = {"params": {name: one for name, one in told.items() if one is not None}}
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        example = _example(body, document)
        if kind == "application/x-www-form-urlencoded":
            fields = _resolved(body["schema"], document)["properties"]
            told = {name: _example({"schema": one}, document) for name, one in fields.items()}
            asked["data"] = {name: one for name, one in told.items() if one is not None}
        elif example is not None:
            asked["headers"] = {"Content-Type": kind}
            asked["content"] = example if isinstance(example, str) else json.dumps(example)
    return await client.request(method, where, **asked)


def _example(described: dict[str, Any], document: dict[str, Any]) -> Any:
    for one in described.get("examples", {}).values():
        return _resolved(one, document)["value"]
    schema = _resolved(described.get("schema", {}), document)
    return described.get("example", next(iter(schema.get("examples", ())), None))


def _resolved(described: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    found = described
    if "$ref" in described:
        _, *road = described["$ref"].split("/")
        found = document
        for name in road:
            found = found[name]
    return found

"""The OpenAPI document tells the truth: every answer is in it, and its examples work."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving_process import serving_process
from thorough import IS_THOROUGH

TIMEOUT_S = 60
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ASKED = settings(
    max_examples=100 if IS_THOROUGH else 6,
    database=None,
    suppress_health_check=list(HealthCheck),
)
RAW = ("application/x-ndjson", "application/x-protobuf")
ENDLESS = ("/v1/live/sse",)
"""A stream that never ends cannot be read to its end."""


@pytest.fixture(scope="module")
def url(shared_database_url: str) -> Iterator[str]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving_process(shared_database_url)) as server,
    ):
        yield server.url


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return found


def resolve(document: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference into the document."""
    while reference := described.get("$ref"):
        described = document
        for part in reference.removeprefix("#/").split("/"):
            described = described[part]
    return described


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))

    assert references
    for reference in references:
        assert resolve(document, {"$ref": reference})


def test_no_description_of_the_framework_remains(document: dict[str, Any]) -> None:
    assert "ValidationError" not in json.dumps(document)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], f"{method} {path}"
            assert "403" in operation["responses"], f"{method} {path}"
            assert all(one["description"] for one in operation["responses"].values())


def test_the_examples_of_a_batch_are_accepted_when_pasted(
    url: str, document: dict[str, Any]
) -> None:
    contents = document["paths"]["/v1/samples"]["post"]["requestBody"]["content"]

    assert contents.keys() == {"application/json", "application/x-ndjson"}
    for content_type, content in contents.items():
        for example in content["examples"].values():
            value = resolve(document, example)["value"]
            answer = httpx.post(
                f"{url}/v1/samples",
                content=value if isinstance(value, str) else json.dumps(value),
                headers={"content-type": content_type},
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["accepted"] == 2


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/keys"), ("PUT", "/v1/limits")])
def test_the_examples_of_administrative_requests_are_accepted_when_pasted(
    url: str, document: dict[str, Any], method: str, path: str
) -> None:
    body = document["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]
    examples = resolve(document, body["schema"])["examples"]

    assert examples
    for example in examples:
        answer = httpx.request(method, f"{url}{path}", json=example)
        assert answer.is_success, answer.text
    httpx.delete(f"{url}/v1/limits")  # the tests after this one share the server


def test_the_document_describes_batches_with_the_models_that_check_them(
    document: dict[str, Any],
) -> None:
    series = document["components"]["schemas"]["SeriesIn"]

    assert series["required"] == ["metric", "samples"]
    assert series["additionalProperties"] is False
    assert series["properties"]["metric"]["pattern"] == "^[a-zA-Z_:][a-zA-Z0-9_:]*$"
    assert series["properties"]["labels"]["maxProperties"] == 64
    assert series["properties"]["samples"]["maxItems"] == 50_000


@schemathesis.serializer(*RAW)
def as_it_is(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("sets_limits", [False, True])  # these last: they are of whoever asks
def test_every_answer_is_in_the_document(url: str, mode: GenerationMode, sets_limits: bool) -> None:
    """Whatever fits the document or does not: no 5xx, no other status, type or shape."""
    schema: Any = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path not in ENDLESS and (operation.path == "/v1/limits") == sets_limits:
            check(operation, mode)


def check(operation: Any, mode: GenerationMode) -> None:
    @ASKED
    @given(case=operation.as_strategy(generation_mode=mode))
    def every_answer_is_documented(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=TIMEOUT_S)

    with suppress(Unsatisfiable):  # what has no parameters cannot be asked wrongly
        every_answer_is_documented()

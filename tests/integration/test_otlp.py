"""POST /v1/metrics: the responses to OpenTelemetry senders, and what is stored."""

import asyncio
import gzip
import json
from collections.abc import Mapping
from time import time_ns
from typing import Any

import cramjam
import pytest
from conftest import execute
from database_proxy import Road, proxied
from google.protobuf.json_format import MessageToJson
from httpx import AsyncClient, Response
from integration.conftest import serving
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from otlp_requests import DELTA, buckets, counter, gauge, histogram, number, request
from protobuf_wire import bytes_field, read_fields
from pushing import find_stored, find_values

from infrawatch.ingest.protocols.otlp import decode, router
from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROTOBUF, JSON = "application/x-protobuf", "application/json"
BOTH = pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
SERVICE = {"service.name": "cart", "service.instance.id": "i-1"}


def encode(sent: ExportMetricsServiceRequest, content_type: str) -> bytes:
    if content_type == PROTOBUF:
        return sent.SerializeToString()
    return MessageToJson(sent, use_integers_for_enums=True).encode()


async def export(
    client: AsyncClient,
    body: bytes | ExportMetricsServiceRequest,
    content_type: str = PROTOBUF,
    headers: Mapping[str, str] = {},
) -> Response:
    content = body if isinstance(body, bytes) else encode(body, content_type)
    return await client.post(
        "/v1/metrics", content=content, headers={"content-type": content_type, **headers}
    )


def partial_success(answer: Response) -> ExportMetricsPartialSuccess:
    """What a good answer says, in the encoding it says it has."""
    assert answer.status_code == 200, answer.text
    response = ExportMetricsServiceResponse()
    if answer.headers["content-type"] == PROTOBUF:
        response.ParseFromString(answer.content)
    else:
        told = answer.json().get("partialSuccess", {})
        response.partial_success.rejected_data_points = int(told.get("rejectedDataPoints", "0"))
        response.partial_success.error_message = told.get("errorMessage", "")
    return response.partial_success


def status(answer: Response) -> tuple[int, str]:
    """Code and message of a `google.rpc.Status`."""
    if answer.headers["content-type"] == JSON:
        return answer.json()["code"], answer.json()["message"]
    assert answer.headers["content-type"] == PROTOBUF
    fields: dict[int, Any] = {one.number: one.content for one in read_fields(answer.content)}
    return fields[1], fields[2].decode()


@BOTH
async def test_samples_are_stored_and_the_answer_is_empty(
    shared_client: AsyncClient, shared_database: Database, content_type: str
) -> None:
    name = f"orders.{content_type[-4:]}"
    now_ns = time_ns()
    sent = request(counter(name, number(7, now_ns, {"http.method": "GET"})), resource=SERVICE)

    answer = await export(shared_client, sent, content_type)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.content == (b"" if content_type == PROTOBUF else b"{}")
    labels = {"job": "cart", "instance": "i-1", "http_method": "GET"}
    metric = name.replace(".", "_") + "_total"
    assert await find_stored(shared_database, metric) == [(labels, now_ns // 1000, 7.0)]


async def test_sending_again_changes_nothing(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now_ns = time_ns()
    body = request(counter("again", number(7, now_ns))).SerializeToString()

    for _ in range(3):
        assert (await export(shared_client, body)).content == b""

    assert await find_values(shared_database, "again_total") == {now_ns // 1000: 7.0}


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON, "application/json; charset=utf-8"])
@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_an_empty_request_is_a_success(
    shared_client: AsyncClient, content_type: str, body: bytes
) -> None:
    if (body == b"") != (content_type == PROTOBUF):
        body = b"" if content_type == PROTOBUF else b'{"resourceMetrics": []}'

    answer = await export(shared_client, body, content_type)

    assert (answer.status_code, answer.text in ("", "{}")) == (200, True)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("zstd", cramjam.zstd.compress), ("deflate", cramjam.zlib.compress)],
)
async def test_bodies_may_be_compressed(
    shared_client: AsyncClient, shared_database: Database, encoding: str, compress: Any
) -> None:
    now_ns = time_ns()
    body = request(gauge(encoding, number(1.5, now_ns))).SerializeToString()

    answer = await export(
        shared_client, bytes(compress(body)), headers={"content-encoding": encoding}
    )

    assert answer.status_code == 200
    assert await find_values(shared_database, encoding) == {now_ns // 1000: 1.5}


@BOTH
async def test_valid_data_points_are_stored_and_invalid_ones_counted_and_explained(
    shared_client: AsyncClient, shared_database: Database, content_type: str
) -> None:
    now_ns = time_ns()
    name = f"part_{content_type[-4:]}"
    sent = request(
        gauge(name, number(1, now_ns), number(2, 10**18), number(3, now_ns + 3600 * 10**9)),
        histogram(f"{name}.lag", buckets([1, 2], [0.5], time_unix_nano=10**18)),
        gauge(f"{name}.none", number(None, now_ns), number(4, now_ns, {"k": "\0"})),
        gauge(f"{name}.more", *(number(5, 1 + n) for n in range(200))),
    )

    told = partial_success(await export(shared_client, sent, content_type))

    assert told.rejected_data_points == 205
    assert told.error_message.startswith("205 of 206 data points were refused; ")
    for words in ("too_old", "INFRAWATCH_RETENTION", "too_far_in_future", "missing_field",
                  "invalid_label_value", f"'{name}.none' at /resourceMetrics/0"):  # fmt: skip
        assert words in told.error_message
    assert len(told.error_message) < 4_001

    old = request(gauge(name, number(1, 10**18)))
    told = partial_success(await export(shared_client, old, content_type))
    assert "too_old" in told.error_message
    assert "too_far_in_future" not in told.error_message
    assert await find_values(shared_database, name) == {now_ns // 1000: 1.0}
    assert await find_stored(shared_database, f"{name}_lag_bucket") == []


@BOTH
async def test_attributes_left_out_are_a_warning_every_time(
    shared_client: AsyncClient, shared_database: Database, content_type: str
) -> None:
    job = f"roomy-{content_type[-4:]}"
    resource = {"service.name": job, "os.type": "linux", "process.command_line": "x" * 5_000}
    for _ in range(2):
        sent = request(gauge("roomy", number(1, time_ns())), resource=resource)
        told = partial_success(await export(shared_client, sent, content_type))
        assert told.rejected_data_points == 0
        assert "process.command_line" in told.error_message

    stored = await find_stored(shared_database, "target_info")
    assert {"job": job, "os_type": "linux"} in [labels for labels, _, _ in stored]


async def test_delta_sums_are_kept_as_they_are_and_rates_add_them_up(
    shared_client: AsyncClient,
) -> None:
    now_ns = time_ns() // 10**10 * 10**10
    points = [number(5, now_ns - n * 10**9) for n in range(1, 5)]
    sent = request(counter("jobs", *points, aggregation_temporality=DELTA))
    assert (await export(shared_client, sent)).content == b""

    [metadata] = (
        (await shared_client.get("/v1/metadata?metric=jobs_total")).json()["metadata"].values()
    )
    assert (metadata["type"], metadata["temporality"]) == ("counter", "delta")
    span = {"start": f"{now_ns // 10**9 - 10}", "end": f"{now_ns // 10**9}", "step": "10s"}
    answer = await shared_client.get(
        "/v1/range", params={"match": "jobs_total", "fn": "increase", **span}
    )
    [series] = answer.json()["series"]
    assert [value for _, value in series["samples"]] == [20]


async def test_a_stale_marker_is_stored_bit_for_bit_and_ends_its_series(
    shared_client: AsyncClient, shared_database_url: str
) -> None:
    now_ns = time_ns()
    for n, point in enumerate([number(1.0, now_ns), number(None, now_ns + 10**6, flags=1)]):
        assert (await export(shared_client, request(gauge("ends", point)))).content == b""
        latest = (await shared_client.get("/v1/latest?match=ends")).json()["series"]
        assert len(latest) == 1 - n

    bits = "SELECT encode(float8send(value), 'hex') FROM samples WHERE metric = 'ends' ORDER BY at"
    assert execute(shared_database_url, bits).split() == ["3ff0000000000000", "7ff0000000000002"]


async def test_exemplars_are_counted_in_our_own_metrics(shared_client: AsyncClient) -> None:
    async def count() -> float:
        lines = (await shared_client.get("/metrics")).text.splitlines()
        name = 'infrawatch_exemplars_ignored_total{format="otlp"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = await count()
    exemplars: Any = [{"as_double": 1.0}, {"trace_id": b"x" * 16}]
    sent = request(counter("seen", number(1, time_ns(), exemplars=exemplars)))
    assert (await export(shared_client, sent)).content == b""

    assert await count() == before + 2


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"\x0a\x05", PROTOBUF), (b"{", JSON), (b'{"resourceMetrics":1}', JSON)],
)
async def test_an_unreadable_body_is_a_bad_request_in_its_own_encoding(
    shared_client: AsyncClient, body: bytes, content_type: str
) -> None:
    answer = await export(shared_client, body, content_type)

    assert (answer.status_code, answer.headers["content-type"]) == (400, content_type)
    code, message = status(answer)
    assert code == 3
    assert message.startswith("malformed_body: the body is not")


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/grpc", "application/proto"]
)
async def test_content_types_otlp_does_not_know_are_refused(
    shared_client: AsyncClient, content_type: str
) -> None:
    answer = await export(shared_client, b"", content_type)

    assert answer.status_code == 415
    assert "application/x-protobuf" in status(answer)[1]


@BOTH
async def test_an_unsupported_encoding_is_refused(
    shared_client: AsyncClient, content_type: str
) -> None:
    answer = await export(shared_client, b"x", content_type, {"content-encoding": "snappy"})

    assert answer.status_code == 415
    assert "gzip" in status(answer)[1]


@BOTH
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_body_is_bounded_after_inflating(
    shared_client: AsyncClient, monkeypatch: pytest.MonkeyPatch, content_type: str, encoding: str
) -> None:
    assert router.MAX_BODY_BYTES == 64 * 2**20
    size = 17 * 2**20  # more than other protocols take
    unknown_field, spaces = bytes_field(2, bytes(size)), b"{" + b" " * size + b"}"
    fits = spaces if content_type == JSON else unknown_field
    monkeypatch.setattr(router, "MAX_BODY_BYTES", len(fits))
    headers = {"content-encoding": encoding}
    too_large = fits + b" "
    if encoding == "gzip":
        fits, too_large = gzip.compress(fits, 1), gzip.compress(too_large, 1)

    accepted = await export(shared_client, fits, content_type, headers)
    refused = await export(shared_client, too_large, content_type, headers)

    assert accepted.status_code == 200, accepted.text
    assert refused.status_code == 413
    code, message = status(refused)
    assert code == 8
    assert "INFRAWATCH_MAX_BODY_BYTES" in message


@BOTH
async def test_during_an_outage_of_postgresql_senders_are_told_to_retry(
    shared_database_url: str, content_type: str
) -> None:
    sent = request(gauge("away", number(1, time_ns())))
    async with (
        proxied(shared_database_url) as proxy,
        serving(proxy.url) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        proxy.close()
        answer = await export(client, sent, content_type)

        assert (answer.status_code, answer.headers["content-type"]) == (503, content_type)
        assert int(answer.headers["retry-after"]) > 0
        assert status(answer)[0] == 14
        proxy.road = Road.OPEN
        await eventually_stored(client, sent, content_type)


async def eventually_stored(
    client: AsyncClient, sent: ExportMetricsServiceRequest, content_type: str
) -> None:
    """Send again and again, as senders do, until it is acknowledged."""
    async with asyncio.timeout(15):
        while (answer := await export(client, sent, content_type)).status_code == 503:
            pass
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("signal", ["traces", "logs"])
async def test_other_signals_are_refused_with_how_to_send_metrics_only(
    shared_client: AsyncClient, signal: str
) -> None:
    headers = {"content-type": PROTOBUF}
    answer = await shared_client.post(f"/v1/{signal}", content=b"\x0a\x00", headers=headers)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" in answer.json()["detail"]


async def test_a_large_request_is_read_while_others_are_served(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now_ns = time_ns()
    points = [number(n, now_ns, {"n": str(n)}) for n in range(2_000)]
    body = request(gauge("large", *points)).SerializeToString()
    assert len(body) > decode._OFF_LOOP_BYTES

    assert (await export(shared_client, body)).content == b""

    stored = await find_stored(shared_database, "large")
    assert sorted(value for _, _, value in stored) == list(range(2_000))


async def test_the_example_of_the_documentation_is_of_the_right_form(
    shared_client: AsyncClient,
) -> None:
    document = (await shared_client.get("/openapi.json")).json()
    content = document["paths"]["/v1/metrics"]["post"]["requestBody"]["content"]
    place = content[JSON]["examples"]["gauge"]["$ref"].rpartition("/")[2]
    example = json.dumps(document["components"]["examples"][place]["value"]).encode()

    told = partial_success(await export(shared_client, example, JSON))

    assert set(content) == {JSON, PROTOBUF}
    assert told.rejected_data_points == 0, told.error_message

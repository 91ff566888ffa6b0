"""A request with far too many series is limited, and others are hardly affected."""

import asyncio
import json
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import psutil
import pytest
from httpx import AsyncClient, Response
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from pushing import now_ms
from serving_process import serving_process
from slow_connections import push_during

from infrawatch.ingest.series.naming import MAX_NEW_LABELS, MAX_NEW_SERIES, TOO_MANY_NEW

SERIES = 800_000
LABELS = 60
WIDE = MAX_NEW_LABELS // (LABELS + 1) + 1
"""So many of them are taken; OTLP's have the label `job` beside their own."""

PATIENCE_S = 300


class Flood(NamedTuple):
    """What is sent, and how many of its series are more than are taken."""

    name: str
    path: str
    content_type: str
    body: Callable[[int, int], bytes]
    series: int
    labels: int
    refused: int


def otlp(series: int, labels: int) -> bytes:
    request = ExportMetricsServiceRequest()
    resource_metrics = request.resource_metrics.add()
    resource_metrics.resource.attributes.add(key="service.name").value.string_value = "flood"
    metric = resource_metrics.scope_metrics.add().metrics.add(name="flood")
    for number in range(series):
        point = metric.gauge.data_points.add(time_unix_nano=now_ms() * 10**6, as_double=1.0)
        for label in range(labels):
            point.attributes.add(key=f"l{label}").value.string_value = f"{number:x}"
    return request.SerializeToString()


def lines(series: int, _labels: int) -> bytes:
    return b"".join(b"flood,n=%d v=1\n" % number for number in range(series))


def vm_import(series: int, _labels: int) -> bytes:
    one = {"values": [1.0], "timestamps": [now_ms()]}
    return b"".join(
        json.dumps({"metric": {"__name__": "flood", "n": str(number)}, **one}).encode() + b"\n"
        for number in range(series)
    )


def refused_points(answer: Response) -> int:
    told = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert TOO_MANY_NEW in told.error_message
    return told.rejected_data_points


async def send(client: AsyncClient, path: str, content_type: str, body: bytes) -> Response:
    """Send with retries as senders do: each time, more of the series are stored."""
    while True:
        answer = await client.post(path, content=body, headers={"content-type": content_type})
        if answer.status_code != 503:
            return answer
        assert answer.headers["retry-after"]


PROTOBUF = "application/x-protobuf"
TOO_MANY = SERIES - MAX_NEW_SERIES
FLOODS = [
    Flood("OTLP", "/v1/metrics", PROTOBUF, otlp, SERIES, 1, TOO_MANY),
    Flood("OTLP, 60 labels", "/v1/metrics", PROTOBUF, otlp, 50_000, LABELS, 50_000 - WIDE),
    Flood("lines", "/write", "text/plain", lines, SERIES, 1, TOO_MANY),
    Flood("JSON lines", "/api/v1/import", "text/plain", vm_import, 99_999, 1, 99_999 - 50_000),
]


@pytest.mark.timeout(2 * PATIENCE_S)
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
async def test_a_flood_of_new_series_is_bounded(database_url: str, flood: Flood) -> None:
    body = flood.body(flood.series, flood.labels)
    async with (
        serving_process(database_url) as server,
        AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client,
    ):
        process = psutil.Process(server.process.pid)
        _, alone = await push_during(client, asyncio.sleep(2))
        before, started = sum(process.cpu_times()[:2]), monotonic()
        sending = send(client, flood.path, flood.content_type, body)
        answer, beside = await push_during(client, sending)
        cpu_s = sum(process.cpu_times()[:2]) - before

    p99_alone, p99_beside = (1000 * took[int(0.99 * len(took))] for took in (alone, beside))
    print(
        f"\n{flood.name}: {len(body) / 2**20:.0f} MiB, {flood.series:,} new series: "
        f"{answer.status_code} after {monotonic() - started:.1f} s, {cpu_s:.1f} s of CPU; "
        f"others' p99 alone {p99_alone:.0f} ms, beside it {p99_beside:.0f} ms"
    )
    # Fewer are refused than were too many at first, if the sender was told to come back.
    if flood.path == "/v1/metrics":
        assert answer.status_code == 200
        assert 0 < refused_points(answer) <= flood.refused
    else:
        assert answer.status_code == 400
        assert TOO_MANY_NEW in answer.text

"""OTLP's JSON: what its rules accept, and what they refuse."""

import json
import math
from typing import Any

import pytest
from decoding import nothing_known
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogram, Metric, Summary
from otlp_requests import (
    DELTA,
    NOW_NS,
    buckets,
    counter,
    gauge,
    histogram,
    number,
    request,
    to_any,
    to_attributes,
)

from infrawatch.errors import BatchTooLarge, MalformedBody
from infrawatch.ingest.protocols.otlp import json_form
from infrawatch.ingest.protocols.otlp.decode import decode
from infrawatch.ingest.protocols.otlp.json_form import to_protobuf

DELTA_BY_NAME = "AGGREGATION_TEMPORALITY_DELTA"
POINT = {"timeUnixNano": str(NOW_NS), "asDouble": 1.5}


def with_metric(metric: object) -> bytes:
    scopes = [{"scope": {"name": "lib"}, "metrics": [metric]}]
    return json.dumps({"resourceMetrics": [{"scopeMetrics": scopes}]}).encode()


def with_point(**fields: object) -> bytes:
    return with_metric({"name": "g", "gauge": {"dataPoints": [POINT | fields]}})


def with_attribute(value: object) -> bytes:
    return with_point(attributes=[{"key": "k", "value": value}])


def read_metric(body: bytes) -> Metric:
    request = ExportMetricsServiceRequest.FromString(to_protobuf(body))
    return request.resource_metrics[0].scope_metrics[0].metrics[0]


def read_point(body: bytes) -> Any:
    return read_metric(body).gauge.data_points[0]


def test_every_kind_of_metric_is_read_as_protobufs_own_mapping_writes_it() -> None:
    exponential: Any = {
        "time_unix_nano": NOW_NS,
        "count": 2**63,
        "scale": -1,
        "zero_count": 1,
        "zero_threshold": 0.5,
        "positive": {"offset": -2, "bucket_counts": [1, 2]},
        "negative": {"bucket_counts": [3]},
    }
    quantiles: Any = [{"quantile": 0.5, "value": 2.0}, {}]
    sent = request(
        gauge("g", number(math.inf, flags=1), unit="s", description="d"),
        counter("c", number(-7, labels={"a": b"\xff"}), aggregation_temporality=DELTA),
        histogram("h", buckets([1, 2], [0.5], {"k": [1.5, True, {}]}, sum=4.5)),
        Metric(name="e", exponential_histogram=ExponentialHistogram(data_points=[exponential])),
        Metric(name="s", summary=Summary(data_points=[{"quantile_values": quantiles}])),  # type: ignore[list-item]  # it takes dicts
        resource={"service.name": "r"},
        scope=InstrumentationScope(name="lib", version="1", attributes=to_attributes({"k": 1})),
        schema_url="https://s/1",
    )

    mapped = MessageToJson(sent, use_integers_for_enums=True)

    assert ExportMetricsServiceRequest.FromString(to_protobuf(mapped.encode())) == sent


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"stringValue": "ü"}, to_any("ü")),
        ({"boolValue": False}, to_any(value=False)),
        ({"intValue": "9007199254740993"}, to_any(9007199254740993)),
        ({"intValue": 12}, to_any(12)),
        ({"doubleValue": 0.1}, to_any(0.1)),
        ({"bytesValue": "_-8"}, to_any(b"\xff\xef")),
        ({"bytesValue": "/+8="}, to_any(b"\xff\xef")),
        ({"arrayValue": {"values": [{"intValue": 1}, {}]}}, to_any([1, None])),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"intValue": 1}}]}}, to_any({"a": 1})),
        ({}, to_any(None)),
        ({"stringValue": None}, to_any(None)),
    ],
)  # fmt: skip
def test_every_kind_of_attribute_is_read(value: object, expected: object) -> None:
    point = read_point(with_attribute(value))

    assert point.attributes[0].value == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7.0),
        ("1.5", 1.5),
        ("-1e-3", -0.001),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
    ],
)
def test_a_double_is_a_number_or_written_as_a_string(value: object, expected: float) -> None:
    assert read_point(with_point(asDouble=value)).as_double == expected


def test_nan_is_written_as_a_string() -> None:
    assert math.isnan(read_point(with_point(asDouble="NaN")).as_double)


@pytest.mark.parametrize("time", [NOW_NS, str(NOW_NS), 2**64 - 1, str(2**64 - 1), 1e18, 0, None])
def test_a_64_bit_integer_is_a_string_or_a_number(time: float | str | None) -> None:
    assert read_point(with_point(timeUnixNano=time)).time_unix_nano == int(time or 0)


def test_unknown_fields_and_names_as_in_proto_files_are_ignored() -> None:
    fields = {"time_unix_nano": "1", "value_strindex": 3, "new": {"deep": [True]}}

    point = read_point(with_point(**fields))

    assert (point.time_unix_nano, point.as_double) == (NOW_NS, 1.5)
    assert to_protobuf(b'{"resource_metrics": [{}], "extra": 1e999}') == b""
    assert to_protobuf(b'{"resourceMetrics": null}') == b""


@pytest.mark.parametrize(
    "exemplar",
    [
        {"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174"},
        {"traceId": "not hex at all", "asDouble": "nor this"},
        {},
    ],
)
def test_exemplars_are_counted_however_their_ids_are_written(exemplar: object) -> None:
    metrics = decode(to_protobuf(with_point(exemplars=[exemplar, exemplar])), nothing_known)

    assert metrics.exemplars == 2
    assert metrics.values.tolist() == [1.5]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "EOF"),
        (b"[]", "object"),
        (b"\xff{}", "JSON"),
        (b'{"resourceMetrics": {}}', "/resourceMetrics"),
        (b'{"resourceMetrics": [null]}', "/resourceMetrics/0"),
        (b'{"a":' * 5_000, "recursion"),
        (with_metric({"name": 5}), "/metrics/0/name"),
        (with_metric({"gauge": {}, "sum": {}}), "only one of gauge, sum"),
        (with_metric({"sum": {"aggregationTemporality": DELTA_BY_NAME}}), "/aggregationTemp"),
        (with_metric({"sum": {"aggregationTemporality": "2"}}), "/sum/aggregationTemporality"),
        (with_metric({"sum": {"isMonotonic": 1}}), "/sum/isMonotonic"),
        (with_point(asInt="1"), "only one of asDouble, asInt"),
        (with_point(asDouble=True), "/dataPoints/0/asDouble"),
        (with_point(asDouble="1.5.5"), "/dataPoints/0/asDouble"),
        (with_point(asDouble=math.nan), "/dataPoints/0/asDouble"),
        (with_point(asDouble=10**400), "/dataPoints/0/asDouble"),
        (with_point(asDouble="1e999"), "/dataPoints/0/asDouble"),
        (with_point(timeUnixNano=True), "/dataPoints/0/timeUnixNano"),
        (with_point(timeUnixNano="1.5"), "/dataPoints/0/timeUnixNano"),
        (with_point(timeUnixNano=" 1"), "/dataPoints/0/timeUnixNano"),
        (with_point(timeUnixNano=1.5), "/dataPoints/0/timeUnixNano"),
        (with_point(timeUnixNano="-1"), "/dataPoints/0/timeUnixNano"),
        (with_point(timeUnixNano=2**64), "/dataPoints/0/timeUnixNano"),
        (with_point(flags=2**32), "/dataPoints/0/flags"),
        (with_attribute({"intValue": str(2**63)}), "/value/intValue"),
        (with_attribute({"intValue": 1, "stringValue": ""}), "only one of"),
        (with_attribute({"bytesValue": "a"}), "/value/bytesValue"),
        (with_attribute({"bytesValue": "a b="}), "/value/bytesValue"),
        (b'{"resourceMetrics": [{"scopeMetrics": [{"schemaUrl": "\\ud800"}]}]}', "JSON"),
    ],
)  # fmt: skip
def test_a_document_that_breaks_the_mapping_is_refused_with_its_position(
    body: bytes, place: str
) -> None:
    with pytest.raises(MalformedBody, match=place):
        to_protobuf(body)


def test_json_of_more_values_than_data_points_need_is_refused_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_form, "_MAX_COMMAS", 1_000)

    with pytest.raises(BatchTooLarge):
        to_protobuf(b'{"resourceMetrics": [' + b"{}," * 1_001 + b"{}]}")
    assert to_protobuf(b'{"resourceMetrics": [' + b"{}," * 900 + b"{}]}") == b"\x0a\x00" * 901

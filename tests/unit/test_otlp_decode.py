"""OTLP requests, read: what becomes of gauges, sums, resources and scopes."""

from typing import Any

import pytest
from caching_decoder import CachingDecoder
from decoding import nothing_known
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, Metric
from otlp_requests import (
    CUMULATIVE,
    DELTA,
    NOW_NS,
    buckets,
    counter,
    encoded_gauge,
    gauge,
    histogram,
    number,
    read,
    refusals,
    request,
    rows,
    to_attributes,
)
from protobuf_wire import bits_field, bytes_field, double_field

from infrawatch.errors import BatchTooLarge, MalformedBody
from infrawatch.ingest.protocols.otlp import families
from infrawatch.ingest.protocols.otlp.decode import decode
from infrawatch.model.samples import is_stale
from infrawatch.store.metadata import Metadata

TOO_MANY = [(0, "too_many_labels")]
SERVICE = {"service.namespace": "shop", "service.name": "cart", "service.instance.id": "i-1"}


def test_gauges_counters_and_other_sums_become_series() -> None:
    metrics = read(
        request(
            gauge("room.temperature", number(21.5, labels={"room": "a"}), unit="Cel"),
            counter("requests", number(7, labels={"http.method": "GET"})),
            counter("connections", number(-3), is_monotonic=False),
        )
    )

    assert rows(metrics) == [
        ("room_temperature_celsius", {"room": "a"}, 21.5),
        ("requests_total", {"http_method": "GET"}, 7.0),
        ("connections", {}, -3.0),
    ]
    assert metrics.times.tolist() == [NOW_NS] * 3
    assert metrics.unit_ns == 1
    assert metrics.metadata["requests_total"] == Metadata("counter")
    assert metrics.metadata["connections"] == Metadata("gauge")


def test_metadata_tell_type_unit_description_and_temporality() -> None:
    metrics = read(
        request(
            counter("io", number(1), unit="By", description="Bytes\0 read", is_monotonic=True),
            counter("jobs", number(1), aggregation_temporality=DELTA),
            histogram("lag", buckets([1], []), unit="s", temporality=DELTA),
        )
    )
    for place in range(len(metrics.keys)):  # what names a series tells of its metric
        metrics.name_of(place)

    assert metrics.metadata["io_bytes_total"] == Metadata("counter", "bytes", "Bytes read")
    assert metrics.metadata["jobs_total"] == Metadata("counter", temporality="delta")
    for part in ("bucket", "count"):
        expected = Metadata("histogram", "seconds", temporality="delta")
        assert metrics.metadata[f"lag_seconds_{part}"] == expected


def test_the_resource_names_job_and_instance_and_describes_itself_once() -> None:
    metrics = read(
        request(
            gauge("a", number(1), number(2, NOW_NS + 5, {"x": "y"})),
            resource={**SERVICE, "host.name": "h", "process.pid": 12},
        )
    )

    who = {"job": "shop/cart", "instance": "i-1"}
    assert rows(metrics) == [
        ("a", who, 1.0),
        ("a", {**who, "x": "y"}, 2.0),
        ("target_info", {**who, "host_name": "h", "process_pid": "12"}, 1.0),
    ]
    assert metrics.times.tolist() == [NOW_NS, NOW_NS + 5, NOW_NS + 5]
    assert metrics.points.tolist() == [0, 1, -1]
    assert metrics.warnings == []


@pytest.mark.parametrize(
    ("resource", "labels"),
    [
        ({"service.name": "cart"}, {"job": "cart"}),
        ({"service.name": "cart", "service.namespace": ""}, {"job": "cart"}),
        ({"service.namespace": "shop", "service.instance.id": "i"}, {"instance": "i"}),
    ],
)
def test_a_resource_that_has_only_a_name_has_no_target_info(
    resource: dict[str, object], labels: dict[str, str]
) -> None:
    assert rows(read(request(gauge("a", number(1)), resource=resource))) == [("a", labels, 1.0)]


def test_attributes_beyond_the_size_of_target_info_are_left_out_and_named() -> None:
    many = {f"k{n:02}": "v" for n in range(80)}
    odd = {"process.command_line": "x" * 5_000, "///": "v", "job": "other", "n" * 300: "v"}

    metrics = read(request(gauge("a", number(1)), resource=SERVICE | odd | many))

    [_, (name, labels, _)] = rows(metrics)
    assert name == "target_info"
    assert len(labels) == 64
    assert labels["job"] == "shop/cart"
    [warning] = metrics.warnings
    for key in ("process.command_line", "///", "job", "n" * 200, "k79"):
        assert key in warning
    assert "k00" not in warning
    assert metrics.count_rejected_points(None) == 0


def test_a_resource_without_a_name_is_warned_about() -> None:
    metrics = read(request(gauge("a", number(1)), resource={"host.name": "h"}))

    assert rows(metrics) == [("a", {}, 1.0)]
    assert "OTEL_SERVICE_NAME" in metrics.warnings[0]


def test_the_scope_becomes_labels() -> None:
    attributes = to_attributes({"team": "a", "name": "hides the scope's own"})
    scope = InstrumentationScope(name="lib", version="1.2", attributes=attributes)

    metrics = read(request(gauge("a", number(1)), scope=scope, schema_url="https://s/1"))

    assert rows(metrics)[0][1] == {
        "otel_scope_name": "lib",
        "otel_scope_version": "1.2",
        "otel_scope_schema_url": "https://s/1",
        "otel_scope_team": "a",
    }


def test_labels_that_collide_are_joined_wherever_they_come_from() -> None:
    own = {"a.b": "1", "a_b": "2", "job": "mine", "otel.scope.name": "mine"}
    metrics = read(
        request(
            gauge("a", number(1, labels=own)),
            resource={"service.name": "cart"},
            scope=InstrumentationScope(name="lib"),
        )
    )

    labels = {"a_b": "1;2", "job": "mine;cart", "otel_scope_name": "mine;lib"}
    assert rows(metrics)[0][1] == labels


@pytest.mark.parametrize("labels", [{}, {"x": "y"}])
def test_no_recorded_value_is_a_stale_marker(labels: dict[str, str]) -> None:
    metrics = read(request(gauge("a", number(None, labels=labels, flags=1), number(2.0, flags=1))))

    assert is_stale(metrics.values).all()
    assert refusals(metrics) == []


def test_a_series_that_is_known_can_still_end() -> None:
    caching = CachingDecoder(decode)
    for flags in (0, 1, 0):
        body = request(gauge("a", number(1.0, flags=flags))).SerializeToString()
        metrics = decode(body, caching.find)
        caching.decode(body)
        assert is_stale(metrics.values).tolist() == [flags == 1]


def test_exemplars_are_counted_and_change_nothing() -> None:
    exemplars = [Exemplar(as_double=1.0, trace_id=b"t" * 16), Exemplar(as_int=2)]
    plain = read(request(counter("a", number(1), number(2.0))))
    metrics = read(
        request(
            counter("a", number(1, exemplars=exemplars), number(2.0, exemplars=exemplars)),
            histogram("h", buckets([1], [], exemplars=exemplars)),
        )
    )

    assert metrics.exemplars == 6
    assert rows(metrics)[:2] == rows(plain)
    assert metrics.keys[:2] == plain.keys, "the series are the same as without"


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (gauge("a", number(1, time_ns=0)), [(0, "missing_field")]),
        (gauge("a", number(None)), [(0, "missing_field")]),
        (gauge("a", number(1), number(None)), [(1, "missing_field")]),
        (counter("a", number(1), aggregation_temporality=0), [(0, "unknown_value")]),
        (counter("a", number(1), aggregation_temporality=CUMULATIVE + 256), [(0, "unknown_value")]),
        (gauge("%%%", number(1)), [(0, "invalid_metric")]),
        (gauge("a" * 201, number(1)), [(0, "too_long")]),
        (gauge("a" * 100_000, number(1)), [(0, "too_long")]),
        (gauge("a", number(1, labels={"b": "\0"})), [(0, "invalid_label_value")]),
        (gauge("a", number(1, labels={"b": "x" * 4_097})), [(0, "too_long")]),
        (gauge("a", number(1, labels={"b": "x" * 2_000_000})), [(0, "too_long")]),
        (gauge("a", number(1, labels={"日本": "x"})), [(0, "invalid_label_name")]),
        (gauge("a", number(1, labels={f"l{n}": "x" for n in range(65)})), TOO_MANY),
        (gauge("a", number(1, labels={f"l{n}": "" for n in range(2000)})), TOO_MANY),
    ],
)  # fmt: skip
def test_a_data_point_that_cannot_be_stored_is_refused_with_the_reason(
    metric: Metric, expected: list[tuple[int, str]]
) -> None:
    assert refusals(read(request(metric))) == expected


def test_a_refusal_names_the_metric_and_its_position() -> None:
    metrics = read(request(gauge("good", number(1)), counter("bad.one", number(1), number(None))))

    name = metrics.name_of(2)
    assert isinstance(name, list)
    assert "'bad.one'" in name[0].locator
    assert "/resourceMetrics/0/scopeMetrics/0/metrics/1/sum/dataPoints/1" in name[0].locator


def test_a_metric_of_an_unknown_kind_is_warned_about() -> None:
    metrics = read(request(Metric(name="from.the.future"), gauge("a", number(1))))

    assert "from.the.future" in metrics.warnings[0]
    assert len(rows(metrics)) == 1


def test_an_empty_request_is_a_good_one() -> None:
    assert len(decode(b"", nothing_known).keys) == 0
    assert len(read(request()).keys) == 0
    assert len(read(request(gauge("a"), resource=SERVICE | {"x": "y"})).keys) == 0


@pytest.mark.parametrize("text", [b"\xff", b"\xc3\x28"])
def test_text_that_is_not_utf_8_costs_only_what_it_names(text: bytes) -> None:
    attribute = bytes_field(1, b"k") + bytes_field(2, bytes_field(1, text))
    bad = bits_field(3, NOW_NS) + double_field(4, 1.5) + bytes_field(7, attribute)
    good = bits_field(3, NOW_NS) + double_field(4, 2.5)

    metrics = decode(encoded_gauge(bad, good), nothing_known)

    assert refusals(metrics) == [(0, "invalid_label_value")]
    assert rows(metrics) == [("m", {}, 2.5)]


@pytest.mark.parametrize("body", [b"\x0a", b"\x0a\x05abc", b"{}", b"\xff" * 100])
def test_a_body_that_is_not_protobuf_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="ExportMetricsServiceRequest"):
        decode(body, nothing_known)


def test_a_time_beyond_2262_stays_in_the_future() -> None:
    [time] = read(request(gauge("a", number(1, time_ns=2**64 - 1)))).times.tolist()

    assert time == 2**63 - 1


def test_a_request_of_too_many_samples_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("decode", "distribution_points"):
        path = f"infrawatch.ingest.protocols.otlp.{module}.MAX_SAMPLES"
        monkeypatch.setattr(path, 10)
    assert families.MAX_SAMPLES > 10
    fits = request(gauge("a", *[number(1)] * 10))
    assert len(read(fits).keys) == 10

    for metric in (gauge("a", *[number(1)] * 11), histogram("h", buckets([0] * 10, range(9)))):
        with pytest.raises(BatchTooLarge, match="send_batch_max_size"):
            read(request(metric))


def test_a_large_request_of_nothing_but_messages_is_refused_before_it_takes_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infrawatch.ingest.protocols.otlp.decode._CHECKED_BYTES", 100)
    monkeypatch.setattr("infrawatch.ingest.protocols.otlp.decode.MAX_SAMPLES", 200)

    many: Any = [{}] * 201
    one: Any = [{"scope_metrics": many}]
    two: Any = [{"scope_metrics": [{"metrics": many}]}]
    for bomb in (many, one, two):
        sent = ExportMetricsServiceRequest(resource_metrics=bomb)
        with pytest.raises(BatchTooLarge):
            read(sent)
    assert len(read(request(gauge("a", *[number(1)] * 150))).keys) == 150

"""OpenTelemetry's names and values as Prometheus writes them."""

import math

import pytest
from otlp_requests import to_any, to_attributes

from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.otlp.attributes import joined, to_entries, to_text
from infrawatch.ingest.protocols.otlp.names import Kind, label_name, metric_name, unit_name


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.request.duration", "s", "other", "http_server_request_duration_seconds"),
        ("jvm.memory.used", "By", "other", "jvm_memory_used_bytes"),
        ("requests", "", "counter", "requests_total"),
        ("requests_total", "", "counter", "requests_total"),
        ("total.requests", "", "counter", "requests_total"),
        ("system.cpu.time", "s", "counter", "system_cpu_time_seconds_total"),
        ("process_cpu_seconds", "s", "counter", "process_cpu_seconds_total"),
        ("cpu.utilization", "1", "gauge", "cpu_utilization_ratio"),
        ("cpu.utilization_ratio", "1", "gauge", "cpu_utilization_ratio"),
        ("items", "1", "counter", "items_total"),
        ("items", "1", "other", "items"),
        ("network.io", "By/s", "gauge", "network_io_bytes_per_second"),
        ("queue.depth", "{message}", "gauge", "queue_depth"),
        ("queue.rate", "{message}/s", "gauge", "queue_rate_per_second"),
        ("disk.usage", "%", "gauge", "disk_usage_percent"),
        ("speed", "km/h", "gauge", "speed_km_per_hour"),
        ("memory", "kBy", "gauge", "memory_kilobytes"),
        ("memory", "TiBy", "gauge", "memory_tibibytes"),
        ("weird", "__x__y__", "gauge", "weird_x_y"),
        ("a..b--c", "", "gauge", "a_b_c"),
        ("__a__", "", "gauge", "a"),
        ("2xx.responses", "", "gauge", "_2xx_responses"),
        ("job:rate5m", "", "gauge", "job:rate5m"),
        ("Grüße", "", "gauge", "Gr_e"),
        ("%$", "", "gauge", ""),
    ],
)
def test_a_metric_is_called_as_prometheus_would_call_it(
    name: str, unit: str, kind: Kind, expected: str
) -> None:
    assert metric_name(name, unit, kind) == expected


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("s", "seconds"), ("By/s", "bytes_per_second"), ("1", ""), ("{request}", ""), ("", "")],
)
def test_metadata_have_the_unit_as_a_word(unit: str, expected: str) -> None:
    assert unit_name(unit) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("service.name", "service_name"),
        ("a:b", "a_b"),
        ("größe", "gr__e"),
        ("a..b", "a__b"),
        ("404", "key_404"),
        ("_private", "key_private"),
        (".hidden", "key_hidden"),
        ("__kept__", "__kept__"),
        ("___", None),
        ("日本", None),
        ("", None),
    ],
)
def test_a_label_is_called_as_prometheus_would_call_it(key: str, expected: str | None) -> None:
    assert label_name(key) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("as it is\n", "as it is\n"),
        (True, "true"),
        (False, "false"),
        (-42, "-42"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e-7, "1.5e-7"),
        (0.000001, "0.000001"),
        (-0.0, "-0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (b"hello world", "aGVsbG8gd29ybGQ="),
        (None, ""),
        ([], "[]"),
        ({}, "{}"),
        (
            [1, -math.inf, "a", True, {"nested": b"hello world"}],
            '[1,"-Infinity","a",true,{"nested":"aGVsbG8gd29ybGQ="}]',
        ),
        (
            {"b": 2, "a": -math.inf, "c": [3, None, 'q"ü']},
            '{"a":"-Infinity","b":2,"c":[3,null,"q\\"ü"]}',
        ),
    ],
)
def test_values_of_every_kind_become_text(value: object, expected: str) -> None:
    assert to_text(to_any(value)) == expected


def test_attributes_whose_labels_collide_are_joined_in_order_of_their_keys() -> None:
    entries = to_entries(to_attributes({"a_b": "3", "a.b": "2", "a-b": "1", "c": "4", "d": ""}))

    assert not isinstance(entries, Flaw)
    assert dict(joined(entries)) == {"a_b": "1;2;3", "c": "4"}


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"ok": 1, "///": 1}, "invalid_label_name"),
        ({"": 1}, "invalid_label_name"),
        ({"__name__": "other"}, "invalid_label_name"),
        ({"k" * 201: 1}, "too_long"),
        ({"k": [None] * 100_000}, "too_long"),
    ],
)
def test_an_attribute_that_can_be_no_label_is_refused(
    attributes: dict[str, object], code: str
) -> None:
    entries = to_entries(to_attributes(attributes))

    assert isinstance(entries, Flaw)
    assert entries.code == code

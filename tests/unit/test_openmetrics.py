"""OpenMetrics, read."""

import math

import pytest
from decoding import Content, content_of
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from infrawatch.ingest.protocols.exposition.decode import decode
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

NOW_MS = 1_790_000_000_123
NOW_US = NOW_MS * 1000

PIECES = [
    *("up", 'a="#"', "{", "}", " ", "\n", "1", "1.5e3", "-1", "NaN", "#", " # {} 1"),
    *("# EOF", "# TYPE", "# UNIT", "info", "\0", "ü"),
]


def read(body: bytes | str) -> Content:
    encoded = body if isinstance(body, bytes) else body.encode()
    return content_of(decode(encoded, NOW_MS, {}, is_openmetrics=True))


def times(line: str) -> list[int]:
    return list(decode(f"{line}\n# EOF\n".encode(), NOW_MS, {}, is_openmetrics=True).times)


def test_what_prometheus_own_client_writes_is_read_as_its_own_parser_reads_it() -> None:
    registry = CollectorRegistry()
    requests = Counter("requests", "All.\nOf them", ["path"], registry=registry)
    requests.labels('a"\\\n').inc(3, exemplar={"trace_id": "#1"})
    Gauge("temperature_celsius", "Now", registry=registry, unit="celsius").set(-math.inf)
    Histogram("seconds", "How long", registry=registry).observe(0.2, {"trace_id": "2"})
    Summary("bytes", "How much", registry=registry).observe(5)
    Info("build", "What", registry=registry).info({"version": "1"})
    Enum("state", "Which", states=["on", "off"], registry=registry).state("off")
    page: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]

    samples = [
        (SeriesName.of(sample.name, sample.labels), sample.value)
        for family in text_string_to_metric_families(page.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
    ]
    result = read(page)
    decoded = decode(page, NOW_MS, {}, is_openmetrics=True)
    names = [name for name, _ in result.series]
    assert result.wrong == []
    assert sorted(zip(names, decoded.values.tolist(), strict=True)) == sorted(samples)
    assert result.metadata == {
        "requests_total": Metadata("counter", help="All.\nOf them"),
        "temperature_celsius": Metadata("gauge", "celsius", "Now"),
        "seconds": Metadata("histogram", help="How long"),
        "bytes": Metadata("summary", help="How much"),
        "build_info": Metadata("gauge", help="What"),
        "state": Metadata("gauge", help="Which"),
    }


@pytest.mark.parametrize(
    ("time", "time_us"),
    [
        ("1790000000", 1_790_000_000_000_000),
        ("1790000000.123456", 1_790_000_000_123_456),
        ("1.79e9", 1_790_000_000_000_000),
        ("-1.5", -1_500_000),
        ('1790000000.25 # {trace_id="a"} 0.5 1', 1_790_000_000_250_000),
        ("# {} 0.5", NOW_US),
        ("", NOW_US),
    ],
)
def test_times_are_seconds_and_else_now(time: str, time_us: int) -> None:
    assert times(f"up 1 {time}") == [time_us]


@pytest.mark.parametrize(
    ("line", "code", "detail"),
    [
        ("up 1 soon", "malformed_line", "time in seconds"),
        ("up 1 NaN", "malformed_line", "time in seconds"),
        ("up 1 1 1", "malformed_line", "time in seconds"),
        ("up 1 1e300", "out_of_range", "64 bits"),
        ("up 1 1e999", "out_of_range", "64 bits"),
        ("up # {} 1", "malformed_line", "expected a number"),
        ("# TYPE up untyped", "unknown_value", "gaugehistogram"),
    ],
)
def test_a_wrong_line_is_refused_alone_and_says_why(line: str, code: str, detail: str) -> None:
    body = f"good 1\n{line}\ngood 2\n# EOF\n"

    assert read(body).wrong == [(2, "line 2", code)]
    assert len(read(body).series) == 2
    [verdict] = decode(body.encode(), NOW_MS, {}, is_openmetrics=True).verdicts
    assert detail in verdict.detail


def test_a_page_that_was_cut_off_is_told_and_so_is_what_follows_its_end() -> None:
    assert read("up 1\n").wrong == [(2, "line 2", "malformed_line")]
    assert len(read("up 1\n").series) == 1
    assert read("up 1\n# EOF\nup 2\n# EOF\n").wrong == [
        (3, "line 3", "malformed_line"),
        (4, "line 4", "malformed_line"),
    ]
    assert read("up 1\n# EOF\nup 2\n").rejected_samples == 1
    assert read("# EOF").wrong == []


@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()))
def test_no_line_is_lost_and_nothing_breaks(body: bytes) -> None:
    lines = [line.strip(b" \t\r") for line in body.split(b"\n")]
    result = read(body)

    count = sum(bool(line) and not line.startswith(b"#") for line in lines)
    assert len(result.series) + result.rejected_samples == count

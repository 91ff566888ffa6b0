"""The Prometheus text format, read."""

import math

import pytest
from decoding import Content, content_of
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from infrawatch.errors import InvalidInput
from infrawatch.ingest.protocols.exposition.decode import decode
from infrawatch.ingest.protocols.exposition.router import read_grouping
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

NOW_MS = 1_790_000_000_123

PIECES = [
    *("up", "a", 'a="b"', "{", "}", '"', "=", ",", "\\", "\\n", "1", "NaN"),
    *(" ", "\t", "\n", "\r\n", "\0", "ü", "#", "TYPE", "HELP", "gauge"),
]


def read(body: bytes | str, **extra_labels: str) -> Content:
    encoded = body if isinstance(body, bytes) else body.encode()
    return content_of(decode(encoded, NOW_MS, extra_labels))


def names(body: str, **extra_labels: str) -> list[SeriesName]:
    return [name for name, _ in read(body, **extra_labels).series]


def values(body: str) -> list[float]:
    return list(decode(body.encode(), NOW_MS, {}).values)


@pytest.mark.parametrize(
    ("line", "metric", "labels"),
    [
        ("up 1", "up", {}),
        ("up{} 1", "up", {}),
        ('up{job="node"} 1', "up", {"job": "node"}),
        ('  up\t{ job = "node" , env="prod" , }\t1  ', "up", {"job": "node", "env": "prod"}),
        ('up{job="node"}1', "up", {"job": "node"}),
        (':a:b_9{le="+Inf"} 1', ":a:b_9", {"le": "+Inf"}),
        (
            r'up{path="C:\\DIR\\", q="a \"b\"", n="1\n2"} 1',
            "up",
            {"path": "C:\\DIR\\", "q": 'a "b"', "n": "1\n2"},
        ),
        ('up{a="}{,=#"} 1', "up", {"a": "}{,=#"}),
        ('up{a="ü",b=""} 1', "up", {"a": "ü"}),
        ('{"http.server.duration"} 1', "http.server.duration", {}),
        ('{"my \\"m\\"", "service.name"="x", a="b"} 1', 'my "m"', {"service.name": "x", "a": "b"}),
        ('up{"service.name"="x"} 1', "up", {"service.name": "x"}),
    ],
)
def test_names_and_labels_are_read(line: str, metric: str, labels: dict[str, str]) -> None:
    assert names(line) == [SeriesName.of(metric, labels)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-1.5e-3", -0.0015),
        ("+2", 2.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("0.1", 0.1),
        ("9007199254740993", 2.0**53),
        ("+Inf", math.inf),
        ("-inf", -math.inf),
        ("Infinity", math.inf),
    ],
)
def test_values_are_read(text: str, value: float) -> None:
    assert values(f"m {text}") == [value]


def test_nan_is_a_value() -> None:
    assert math.isnan(values("m NaN")[0])


def test_times_are_milliseconds_and_else_now() -> None:
    decoded = decode(b"m 1 1395066363000\nm 2 -5\nm 3", NOW_MS, {})

    assert decoded.times.tolist() == [1395066363000, -5, NOW_MS]
    assert decoded.unit_ns == 1_000_000


@pytest.mark.parametrize(
    ("line", "code", "detail"),
    [
        ("9lives 1", "malformed_line", "expected a metric"),
        ("a-b 1", "malformed_line", "expected a metric"),
        ("up", "malformed_line", "expected a number"),
        ("up{} ", "malformed_line", "expected a number"),
        ("up one", "malformed_line", "expected a number"),
        ("up 0x10", "malformed_line", "expected a number"),
        ("up 1_000", "malformed_line", "expected a number"),
        ("up 1e999", "not_finite", "beyond float64"),
        ("up 1 1.5", "malformed_line", "expected nothing behind the value but a time"),
        ("up 1 2 3", "malformed_line", "expected nothing behind the value but a time"),
        ('up 1 # {a="b"} 2', "malformed_line", "expected nothing behind the value but a time"),
        ("up 1 9223372036854775808", "out_of_range", "64 bits"),
        ('up{a="b} 1', "malformed_line", "expected a metric"),
        ("up{a=b} 1", "malformed_line", "expected a metric"),
        ('up{a="b" c="d"} 1', "malformed_line", "expected a metric"),
        (r'up{a="\q"} 1', "malformed_line", "expected a metric"),
        ('{"a","b"} 1', "malformed_line", "expected a metric"),
        ("{} 1", "malformed_line", "expected a metric"),
        ('{""} 1', "invalid_metric", "not empty"),
        ('up{a="b",a="c"} 1', "duplicate_label", "once"),
        ('up{""="c"} 1', "invalid_label_name", "not empty"),
        ('up{a="\0"} 1', "invalid_label_value", "NUL"),
        (b'up{a="\xff"} 1', "malformed_line", "UTF-8"),
        ("m" * 201 + " 1", "too_long", "200"),
        ("# TYPE up meter", "unknown_value", "one of counter, gauge"),
    ],
)
def test_an_invalid_line_is_refused_alone_with_a_reason(
    line: bytes | str, code: str, detail: str
) -> None:
    wrong = line if isinstance(line, bytes) else line.encode()
    body = b"good 1\n" + wrong + b"\ngood 2\n"

    assert read(body).wrong == [(2, "line 2", code)]
    assert len(read(body).series) == 2
    decoded = decode(body, NOW_MS, {})
    named = (decoded.name_of(number) for number in range(len(decoded.keys)))
    refused = [one for each in named if not isinstance(each, SeriesName) for one in each]
    assert detail in [*decoded.verdicts, *refused][0].detail


def test_types_and_help_become_metadata() -> None:
    body = """
    # HELP up Whether it\\nis up, in \\\\ and out.
    # TYPE up gauge
    #	TYPE	seconds	counter
    # TYPE "http.server" untyped
    # TYPE
    # HELP
    # TYPE "\\q" gauge
    # a comment
    #
    # EOF
    up 1
    """

    assert read(body).metadata == {
        "up": Metadata("gauge", help="Whether it\nis up, in \\ and out."),
        "seconds": Metadata("counter"),
        "http.server": Metadata("unknown"),
    }
    assert read(body).wrong == []


def test_long_or_odd_help_becomes_one_that_can_be_stored() -> None:
    metadata = read(b"# HELP m a\0b\xff" + b"c" * 2000).metadata

    assert metadata["m"].help == ("ab\ufffd" + "c" * 2000)[:1024]


def test_extra_labels_apply_to_every_series_and_replace_its_own() -> None:
    body = 'up{job="a"} 1\n{"up",x="y"} 1'

    assert names(body, job="backup", instance="db-1") == [
        SeriesName.of("up", {"job": "backup", "instance": "db-1"}),
        SeriesName.of("up", {"job": "backup", "instance": "db-1", "x": "y"}),
    ]
    assert read("up 1", **{"a\n": "b"}).wrong == [(1, "line 1", "invalid_label_name")]


def test_extra_labels_are_part_of_the_keys() -> None:
    keys = {
        decode(b"up 1", NOW_MS, labels).keys[0]
        for labels in ({}, {"a": "b"}, {"a": "c"}, {"a": "b", "c": "d"})
    }

    assert len(keys) == 4
    assert (
        decode(b"m 1", 0, {"a": "1", "b": "2"}).keys == decode(b"m 1", 0, {"b": "2", "a": "1"}).keys
    )


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("job/backup", {"job": "backup"}),
        ("job/backup/instance/db-1", {"job": "backup", "instance": "db-1"}),
        ("job@base64/L3Zhci90bXA/a@base64/w7w=", {"job": "/var/tmp", "a": "ü"}),
        ("job/a/empty@base64/=", {"job": "a", "empty": ""}),
    ],
)
def test_the_grouping_of_a_push_is_read(path: str, labels: dict[str, str]) -> None:
    assert read_grouping(path) == labels


@pytest.mark.parametrize(
    "path", ["", "job", "instance/a", "job/a/b", "job@base64/!", "job@base64/_w", "job@base64/YQ/x"]
)
def test_a_grouping_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        read_grouping(path)


def test_output_of_the_prometheus_client_is_read_as_by_its_own_parser() -> None:
    registry = CollectorRegistry()
    Counter("requests", "All.\nOf them", ["path"], registry=registry).labels('a"\\\n').inc(3)
    Gauge("temperature_celsius", "Now", registry=registry).set(-math.inf)
    Histogram("seconds", "How long", registry=registry).observe(0.2)
    Summary("bytes", "How much", registry=registry).observe(5)
    Info("build", "What", registry=registry).info({"version": "1"})
    page = generate_latest(registry)

    families = list(text_string_to_metric_families(page.decode()))
    expected = [
        (SeriesName.of(sample.name, sample.labels), sample.value)
        for family in families
        for sample in family.samples
    ]
    result = read(page)
    assert result.wrong == []
    assert sorted(zip(names(page.decode()), values(page.decode()), strict=True)) == sorted(expected)
    assert result.metadata["seconds"] == Metadata("histogram", help="How long")


label_values = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)


@given(
    st.dictionaries(
        st.from_regex(r"[a-zA-Z_]\w{0,5}", fullmatch=True).filter(str.isascii),
        label_values,
        max_size=3,
    )
)
def test_labels_that_are_written_by_the_rules_are_read_back(labels: dict[str, str]) -> None:
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for name, value in labels.items()
    }
    line = "m{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "} 1"

    assert names(line) == [SeriesName.of("m", labels)]


@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()))
def test_no_line_is_lost_and_nothing_breaks(body: bytes) -> None:
    lines = [line.strip(b" \t\r") for line in body.split(b"\n")]
    result = read(body)

    count = sum(bool(line) and not line.startswith(b"#") for line in lines)
    assert len(result.series) + result.rejected_samples == count

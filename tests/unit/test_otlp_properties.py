"""Arbitrary OTLP requests are read as protobuf defines, or rejected."""

import json
import struct
from functools import partial

from caching_decoder import CachingDecoder
from decoding import nothing_known
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint
from otlp_requests import (
    NOW_NS,
    buckets,
    counter,
    encoded_gauge,
    gauge,
    histogram,
    number,
    request,
)
from protobuf_wire import bits_field, bytes_field, double_field

from infrawatch.errors import InfraWatchError
from infrawatch.ingest.protocols.otlp.attributes import joined, to_entries
from infrawatch.ingest.protocols.otlp.decode import Metrics, decode
from infrawatch.ingest.protocols.otlp.json_form import to_protobuf
from infrawatch.model.labels import SeriesName, to_labels
from infrawatch.model.samples import STALE_NAN_BITS

VALID = request(
    gauge("g", number(1.5, labels={"a": "b"}), number(2), unit="s", description="d"),
    counter("c", number(7), number(1.0, flags=1)),
    histogram("h", buckets([1, 2], [0.5], {"a": [1, {"b": b"c"}]}, sum=4.5)),
    resource={"service.name": "r", "host.name": "h"},
).SerializeToString()

KEY = bytes_field(1, b"k")
VALUE = bytes_field(2, bytes_field(1, b"v"))
BITS = st.integers(0, 2**64 - 1) | st.just(NOW_NS)

FIELDS = st.one_of(
    *(BITS.map(partial(bits_field, number)) for number in (2, 3, 4, 6)),
    st.sampled_from([b"", double_field(3, 1.0)]).map(partial(bytes_field, 5)),
    st.sampled_from([b"", KEY, KEY + VALUE, b"\xff"]).map(partial(bytes_field, 7)),
    st.sampled_from([b"\x40\x00", b"\x40\x01", b"\x40\x02", b"\x40\x81\x00"]),
    st.binary(max_size=20).map(partial(bytes_field, 14)),
)
POINTS = st.lists(FIELDS, max_size=8).map(b"".join) | st.binary(max_size=40)
USUAL = bits_field(2, 1) + bits_field(3, NOW_NS) + double_field(4, 1.5)


def expected(encoded: bytes) -> tuple[tuple[tuple[str, str], ...], int, bytes] | None:
    """Labels, time and the bits of the value, as the generated classes read them."""
    try:
        point = NumberDataPoint.FromString(encoded)
    except DecodeError:
        return None
    which = point.WhichOneof("value")
    is_stale = point.flags & 1
    if not point.time_unix_nano or not (which or is_stale):
        return None
    entries = to_entries(point.attributes)
    if not isinstance(entries, list):
        return None
    value = struct.pack("<Q", STALE_NAN_BITS)
    if which and not is_stale:
        value = struct.pack("<d", getattr(point, which))
    return to_labels(dict(joined(entries))), min(point.time_unix_nano, 2**63 - 1), value


def found(metrics: Metrics) -> list[tuple[tuple[tuple[str, str], ...], int, bytes] | None]:
    names = [metrics.name_of(n) for n in range(len(metrics.keys))]
    return [
        (name.labels, time, struct.pack("<d", value)) if isinstance(name, SeriesName) else None
        for name, time, value in zip(
            names, metrics.times.tolist(), metrics.values.tolist(), strict=True
        )
    ]


@given(st.lists(POINTS, min_size=1, max_size=6))
@example([USUAL, USUAL[9:], USUAL[:-1], b""])
@example([b"", USUAL])
@example([USUAL[9:] + bytes_field(7, KEY), bytes_field(7, KEY) + USUAL])
@example([USUAL + bytes_field(7, b"") + bits_field(3, 0)])
@example([bytes_field(7, KEY + bytes_field(2, b"\n\0")) + USUAL[9:], USUAL])
def test_a_point_is_read_as_protobuf_reads_it_known_or_not(points: list[bytes]) -> None:
    """Fields in any order, twice, missing, unknown or cut off; the second time keys are known."""
    body = encoded_gauge(*points)
    caching = CachingDecoder(decode)

    for _ in range(2):
        assert found(decode(body, caching.find)) == [expected(point) for point in points]
        caching.decode(body)


@given(st.floats(), st.integers(-(2**63), 2**63 - 1))
def test_every_bit_of_a_value_is_kept(real: float, whole: int) -> None:
    body = request(gauge("g", number(real), number(whole))).SerializeToString()

    values = decode(body, nothing_known).values

    assert values.tobytes() == struct.pack("<2d", real, float(whole))


def test_a_stale_marker_that_comes_as_a_value_keeps_its_bits() -> None:
    marker = struct.pack("<Q", STALE_NAN_BITS)

    [value] = decode(encoded_gauge(USUAL[:19] + marker), nothing_known).values

    assert struct.pack("<d", value) == marker


def explode(body: bytes) -> None:
    """Read a body and name everything in it."""
    try:
        metrics = decode(body, nothing_known)
    except InfraWatchError:
        return
    assert len(metrics.keys) == len(metrics.times) == len(metrics.values) == len(metrics.points)
    for sample in range(len(metrics.keys)):
        metrics.name_of(sample)
        metrics.locate(sample, 0)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(body: bytes) -> None:
    explode(body)


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6))
def test_no_damage_to_a_request_breaks_the_decoder(damages: list[tuple[int, int]]) -> None:
    body = bytearray(VALID)
    for place, byte in damages:
        body[place] = byte
    explode(bytes(body))


@given(st.integers(0, len(VALID)), st.integers(0, len(VALID)), st.binary(max_size=10))
def test_no_part_of_a_request_breaks_the_decoder(start: int, end: int, more: bytes) -> None:
    explode(VALID[start:end] + more)


KEYS = st.sampled_from(
    [
        "resourceMetrics",
        "scopeMetrics",
        "metrics",
        "gauge",
        "sum",
        "histogram",
        "dataPoints",
        "attributes",
        "resource",
        "timeUnixNano",
        "asInt",
        "asDouble",
        "bucketCounts",
        "flags",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(st.binary(max_size=100) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_json_breaks_the_decoder(body: bytes) -> None:
    try:
        encoded = to_protobuf(body)
    except InfraWatchError:
        return
    explode(encoded)

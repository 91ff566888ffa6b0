"""Native histograms of remote write, as classic ones."""

import math
import struct

import pytest
from decoding import content_of, nothing_known
from hypothesis import given
from hypothesis import strategies as st
from protobuf_wire import (
    Table,
    bits_field,
    bytes_field,
    double_field,
    doubles_field,
    labels,
    number_field,
    packed_field,
    sample,
    write_request,
    zigzag,
)
from stored import named

from infrawatch.ingest.protocols.remote_write import version1, version2
from infrawatch.ingest.protocols.remote_write.classic import to_classics
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import STALE_NAN_BITS

NOON = 1_790_000_000_000
COUNT, COUNT_FLOAT, SUM, SCHEMA, ZERO_THRESHOLD, ZERO_COUNT, ZERO_COUNT_FLOAT = range(1, 8)
NEGATIVE, POSITIVE = 8, 11
"""Fields of spans; deltas and then float counts come right after them."""

Bucket = tuple[int, int]
"""Its index and what it holds."""


def spans(field: int, *pairs: tuple[int, int]) -> bytes:
    """Gaps and lengths."""
    return b"".join(
        bytes_field(field, number_field(1, zigzag(offset)) + number_field(2, length))
        for offset, length in pairs
    )


def deltas(field: int, *counts: int) -> bytes:
    steps = [count - before for count, before in zip(counts, (0, *counts), strict=False)]
    return packed_field(field + 1, map(zigzag, steps))


def buckets(field: int, *filled: Bucket) -> bytes:
    """One span for each bucket."""
    indexes = [index for index, _ in filled]
    gaps = [index - before - 1 for index, before in zip(indexes, (-1, *indexes), strict=False)]
    return spans(field, *((gap, 1) for gap in gaps)) + deltas(field, *(held for _, held in filled))


def histogram(schema: int, *parts: bytes, total: float = 2.5) -> bytes:
    head = double_field(SUM, total) + number_field(SCHEMA, zigzag(schema))
    return head + number_field(15, NOON) + b"".join(parts)


def read(encoded: bytes, name: bytes = labels("h", job="x")) -> dict[str, float]:
    """The values of the one histogram that is sent, by suffix, or by `le`."""
    decoded, lasts = to_classics(
        version1.decode(write_request(name + bytes_field(4, encoded)), nothing_known)
    )
    assert decoded.verdicts.shown == []
    assert decoded.times.tolist() == [NOON] * len(decoded.times)
    assert lasts.tolist() == [len(decoded.times) - 1]
    found = {}
    for number, value in enumerate(decoded.values.tolist()):
        series = decoded.name_of(number)
        assert isinstance(series, SeriesName)
        more = dict(series.labels)
        le = more.pop("le", None)
        assert more == {"job": "x"}
        assert (le is None) == (series.metric in ("h_sum", "h_count"))
        found[le or series.metric.removeprefix("h")] = value
    return found


def refused(encoded: bytes, name: bytes = labels("h")) -> list[tuple[str, str]]:
    body = write_request(name + bytes_field(4, encoded))
    decoded, lasts = to_classics(version1.decode(body, nothing_known))
    assert len(decoded.keys) == len(lasts) == 0
    return [(one.code, one.locator) for one in decoded.verdicts]


def test_a_bucket_is_stored_with_both_bounds_and_everything_below_is_in_it() -> None:
    encoded = histogram(
        0,
        number_field(COUNT, 10),
        double_field(ZERO_THRESHOLD, 0.001) + number_field(ZERO_COUNT, 1),
        buckets(NEGATIVE, (1, 2)),  # from -2 to -1
        buckets(POSITIVE, (0, 3), (3, 4)),  # from 0.5 to 1, from 4 to 8
    )

    assert read(encoded) == {
        "-2.0": 0,
        "-1.0": 2,
        "-0.001": 2,
        "0.001": 3,
        "0.5": 3,
        "1.0": 6,
        "4.0": 6,
        "8.0": 10,
        "+Inf": 10,
        "_sum": 2.5,
        "_count": 10,
    }


def test_buckets_finer_than_four_to_a_doubling_are_merged() -> None:
    filled = [(index, 1) for index in range(1, 9)]  # eight to a doubling, from 1 to 2
    merged = read(histogram(3, number_field(COUNT, 8), buckets(POSITIVE, *filled)))

    assert merged == {
        "1.0": 0,
        "1.189207115002721": 2,
        "1.4142135623730951": 4,
        "1.681792830507429": 6,
        "2.0": 8,
        "+Inf": 8,
        "_sum": 2.5,
        "_count": 8,
    }


@pytest.mark.parametrize("schema", range(-4, 9))
def test_a_bucket_of_any_schema_lies_between_its_bounds(schema: int) -> None:
    for index in (-9, -1, 0, 1, 2, 7):
        bounds = [2.0 ** ((index - 1) * 2.0**-schema), 2.0 ** (index * 2.0**-schema)]
        for field, sign in ((POSITIVE, 1), (NEGATIVE, -1)):
            values = read(histogram(schema, number_field(COUNT, 1), buckets(field, (index, 1))))
            bounds_of = {float(le): held for le, held in values.items() if le[0] != "_"}
            below = max(bound for bound, held in bounds_of.items() if not held)
            above = min(bound for bound, held in bounds_of.items() if held)
            lower, upper = sorted(sign * bound for bound in bounds)
            if schema <= 2:
                assert (below, above) == pytest.approx((lower, upper), rel=1e-12)
            assert below <= lower + 1e-12 * abs(lower)
            assert above >= upper - 1e-12 * abs(upper)


def test_custom_buckets_become_the_classic_ones_they_were() -> None:
    encoded = histogram(
        -53,
        number_field(COUNT, 6),
        spans(POSITIVE, (0, 1), (1, 2)),
        deltas(POSITIVE, 1, 2, 3),
        doubles_field(16, [0.005, 1.0, 2_500_000.0]),
    )

    assert read(encoded) == {
        "0.005": 1,
        "1.0": 1,
        "2.5e+06": 3,
        "+Inf": 6,
        "_sum": 2.5,
        "_count": 6,
    }


def test_counts_may_be_floats() -> None:
    encoded = histogram(
        0,
        double_field(COUNT_FLOAT, 2.0),
        double_field(ZERO_COUNT_FLOAT, 0.5),
        spans(POSITIVE, (1, 2)),
        doubles_field(POSITIVE + 2, [0.25, 1.0]),
    )

    assert read(encoded) == {
        "0.0": 0.5,
        "1.0": 0.5,
        "2.0": 0.75,
        "4.0": 1.75,
        "+Inf": 2.0,
        "_sum": 2.5,
        "_count": 2.0,
    }


def test_a_histogram_of_nothing_has_a_count_of_zero() -> None:
    assert read(histogram(0, total=0.0)) == {"+Inf": 0, "_sum": 0, "_count": 0}


def test_observations_that_were_no_numbers_are_in_no_bucket() -> None:
    encoded = histogram(0, number_field(COUNT, 3), buckets(POSITIVE, (1, 2)), total=math.nan)

    assert read(encoded)["+Inf"] == 3
    assert read(encoded)["2.0"] == 2


def test_a_stale_marker_ends_sum_count_and_the_last_bucket() -> None:
    stale = bits_field(SUM, STALE_NAN_BITS) + number_field(15, NOON)
    bits = {name: struct.pack("<d", value) for name, value in read(stale).items()}

    assert bits == dict.fromkeys(("+Inf", "_sum", "_count"), struct.pack("<Q", STALE_NAN_BITS))


def test_both_versions_read_the_same_histogram() -> None:
    encoded = histogram(0, number_field(COUNT, 3), buckets(POSITIVE, (1, 3)))
    table = Table()
    second = table.request(table.labels("h", job="x") + bytes_field(3, encoded) + table.metadata(3))
    request = version2.decode(second, nothing_known)
    first = version1.decode(
        write_request(labels("h", job="x") + bytes_field(4, encoded)), nothing_known
    )

    assert (
        content_of(to_classics(request).decoded).series
        == content_of(to_classics(first).decoded).series
    )
    assert request.decoded.metadata["h"].type == "histogram"


def test_samples_and_histograms_of_a_series_are_both_read() -> None:
    encoded = bytes_field(4, histogram(0, total=0.0))
    request = version1.decode(
        write_request(labels("h") + sample(1.0, NOON) + encoded * 2), nothing_known
    )
    decoded, lasts = to_classics(request)

    assert [name for name, _ in content_of(request.decoded).series] == [named("h")]
    assert lasts.tolist() == [2, 5]
    assert decoded.locate(3, 0) == (0, "series 0, histogram 1 of h")


@pytest.mark.parametrize(
    "encoded",
    [
        histogram(9),
        histogram(-5),
        histogram(0, number_field(COUNT, 1)),
        histogram(0, buckets(POSITIVE, (1, 3))),
        histogram(0, number_field(COUNT, 2), buckets(POSITIVE, (1, 3)), total=math.nan),
        histogram(0, number_field(COUNT, 3), spans(POSITIVE, (0, 2)), deltas(POSITIVE, 3)),
        histogram(0, number_field(COUNT, 3), deltas(POSITIVE, 3)),
        histogram(0, spans(POSITIVE, (0, 2**32 - 1))),
        histogram(0, spans(POSITIVE, (0, 2)), deltas(POSITIVE, 1, -1)),
        histogram(
            0, number_field(COUNT, 2), spans(POSITIVE, (0, 1), (-1, 1)), deltas(POSITIVE, 1, 1)
        ),
        histogram(0, number_field(ZERO_COUNT, 1) + double_field(ZERO_THRESHOLD, -1.0)),
        histogram(0, double_field(COUNT_FLOAT, -1.0)),
        histogram(0, double_field(COUNT_FLOAT, math.inf)),
        histogram(0, double_field(COUNT_FLOAT, 1.0) + double_field(ZERO_COUNT_FLOAT, -1.0)),
        histogram(
            0,
            double_field(COUNT_FLOAT, 1.0),
            spans(POSITIVE, (0, 1)),
            doubles_field(POSITIVE + 2, [math.nan]),
        ),
        histogram(-53, doubles_field(16, [2.0, 1.0])),
        histogram(-53, doubles_field(16, [math.nan])),
        histogram(-53, doubles_field(16, [1.0, math.inf])),
        histogram(-53, number_field(ZERO_COUNT, 1) + number_field(COUNT, 1)),
        histogram(-53, number_field(COUNT, 1), buckets(NEGATIVE, (0, 1))),
        histogram(-53, number_field(COUNT, 1), buckets(POSITIVE, (1, 1))),
        histogram(-53, number_field(COUNT, 1), buckets(POSITIVE, (-1, 1))),
    ],
)
def test_an_invalid_histogram_is_refused_by_name(encoded: bytes) -> None:
    assert refused(encoded) == [("invalid_histogram", "series 0, histogram 0 of h")]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (labels(""), "invalid_metric"),
        (labels("h", le="1"), "duplicate_label"),
        (labels("h" * 195), "too_long"),
        (labels("h", **{f"l{n}": "x" for n in range(64)}), "too_many_labels"),
    ],
)
def test_a_histogram_whose_series_cannot_be_named_is_refused_once(name: bytes, code: str) -> None:
    assert [found for found, _ in refused(histogram(0, total=0.0), name)] == [code]


def test_the_number_of_samples_from_one_request_is_bounded() -> None:
    bounds = doubles_field(16, [float(n) for n in range(8_000)])
    long_name = labels("h", **{f"l{n}": "x" * 4_000 for n in range(5)})
    body = write_request(long_name + bytes_field(4, histogram(-53, bounds, total=0.0)) * 2)
    decoded, lasts = to_classics(version1.decode(body, nothing_known))

    assert (len(lasts), len(decoded.keys)) == (0, 0)
    assert [one.code for one in decoded.verdicts] == ["too_many_buckets"] * 2


def test_a_histogram_of_absurd_size_is_refused() -> None:
    assert refused(histogram(0, bytes_field(20, bytes(70_000))))[0][0] == "invalid_histogram"


@given(st.binary(max_size=60), st.lists(st.binary(max_size=12), max_size=4))
def test_any_bytes_are_a_histogram_or_refused(tail: bytes, parts: list[bytes]) -> None:
    fields = b"".join(
        bytes_field(number, part) for number, part in zip((8, 9, 11, 12), parts, strict=False)
    )
    request = version1.decode(
        write_request(labels("h") + bytes_field(4, fields + tail)), nothing_known
    )
    decoded = to_classics(request).decoded

    assert decoded.verdicts or len(decoded.keys) >= 3

"""Histograms, exponential histograms and summaries as plain series."""

import math
from typing import Any

import pytest
from caching_decoder import CachingDecoder
from decoding import nothing_known
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Metric,
    Summary,
    SummaryDataPoint,
)
from otlp_requests import (
    CUMULATIVE,
    DELTA,
    NOW_NS,
    buckets,
    encoded_request,
    histogram,
    read,
    refusals,
    request,
    rows,
)
from protobuf_wire import bytes_field, number_field

from infrawatch.ingest.protocols.otlp.decode import Metrics, decode
from infrawatch.model.samples import is_stale


def exponential(temporality: Any = CUMULATIVE, **fields: Any) -> Metric:
    point = ExponentialHistogramDataPoint(time_unix_nano=NOW_NS, **fields)
    data = ExponentialHistogram(data_points=[point], aggregation_temporality=temporality)
    return Metric(name="e", exponential_histogram=data)


def side(offset: int, *counts: int) -> Any:
    return {"offset": offset, "bucket_counts": counts}


def summary(quantiles: dict[float, float], **fields: Any) -> Metric:
    values: Any = [{"quantile": q, "value": value} for q, value in quantiles.items()]
    point = SummaryDataPoint(time_unix_nano=NOW_NS, quantile_values=values, **fields)
    return Metric(name="s", summary=Summary(data_points=[point]))


def by_bound(metrics: Metrics) -> dict[float, float]:
    """The buckets, by `le`."""
    return {float(labels["le"]): value for _, labels, value in rows(metrics) if "le" in labels}


def test_a_histogram_is_cumulated_buckets_sum_and_count() -> None:
    metrics = read(request(histogram("h", buckets([1, 2, 0, 3], [0.5, 10, 1e6], {"r": "/"}, sum=7.5), unit="s")))  # fmt: skip  # noqa: E501

    assert rows(metrics) == [
        ("h_seconds_count", {"r": "/"}, 6.0),
        ("h_seconds_sum", {"r": "/"}, 7.5),
        ("h_seconds_bucket", {"r": "/", "le": "0.5"}, 1.0),
        ("h_seconds_bucket", {"r": "/", "le": "10"}, 3.0),
        ("h_seconds_bucket", {"r": "/", "le": "1000000"}, 3.0),
        ("h_seconds_bucket", {"r": "/", "le": "+Inf"}, 6.0),
    ]
    assert metrics.points.tolist() == [0] * 6
    assert metrics.times.tolist() == [NOW_NS] * 6


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA])
def test_a_histogram_without_a_sum_has_none_and_needs_no_buckets(temporality: Any) -> None:
    metrics = read(request(histogram("h", buckets([], [], count=3), temporality=temporality)))

    assert rows(metrics) == [("h_count", {}, 3.0), ("h_bucket", {"le": "+Inf"}, 3.0)]


def test_minimum_and_maximum_are_not_kept() -> None:
    with_both = read(request(histogram("h", buckets([1], [], min=1.0, max=2.0))))

    assert rows(with_both) == rows(read(request(histogram("h", buckets([1], [])))))


def test_a_histogram_that_ends_ends_with_all_its_series() -> None:
    point = buckets([], [1.0, 2.0], count=0, flags=1)

    metrics = read(request(histogram("h", point)))

    names = [(name, labels.get("le")) for name, labels, _ in rows(metrics)]
    buckets_of = [("h_bucket", le) for le in ("1", "2", "+Inf")]
    assert names == [("h_count", None), ("h_sum", None), *buckets_of]
    assert is_stale(metrics.values).all()


@pytest.mark.parametrize(
    "point",
    [
        buckets([1, 2], []),
        buckets([1, 2], [1.0, 2.0]),
        buckets([], [1.0]),
        buckets([1, 2, 3], [2.0, 1.0]),
        buckets([1, 2, 3], [1.0, 1.0]),
        buckets([1, 2], [math.nan]),
        buckets([1, 2], [math.inf]),
    ],
)
def test_a_histogram_that_contradicts_itself_is_refused(point: Any) -> None:
    metrics = read(request(histogram("h", point, buckets([1], []))))

    assert refusals(metrics) == [(0, "invalid_histogram")]
    assert metrics.points.tolist() == [0, 1, 1]


def test_the_bucket_label_is_not_an_attribute() -> None:
    metrics = read(request(histogram("h", buckets([1], [], {"le": "5"}))))

    assert refusals(metrics) == [(0, "duplicate_label")]
    assert rows(metrics) == [("h_count", {"le": "5"}, 1.0)]


def test_bounds_are_the_same_series_from_request_to_request() -> None:
    caching = CachingDecoder(decode)
    sent = request(histogram("h", buckets([1, 2], [0.5], {"a": "b"}, sum=1.0))).SerializeToString()
    caching.decode(sent)

    again = decode(sent, caching.find)

    assert None not in caching.find(again.keys)
    assert len(set(again.keys)) == 4


def test_metadata_is_decoded_only_with_new_series() -> None:
    caching = CachingDecoder(decode)
    sent = request(histogram("h", buckets([1], []))).SerializeToString()

    assert caching.decode(sent).metadata.keys() == {"h_count", "h_bucket"}
    assert decode(sent, caching.find).metadata == {}


def test_an_exponential_histogram_gets_bounds_around_buckets_that_are_not_empty() -> None:
    point: Any = {
        "count": 10,
        "sum": 4.5,
        "scale": 0,
        "zero_count": 1,
        "positive": side(-1, 2, 0, 0, 3),
        "negative": side(1, 4),
    }

    metrics = read(request(exponential(**point)))

    assert rows(metrics)[:2] == [("e_count", {}, 10.0), ("e_sum", {}, 4.5)]
    assert by_bound(metrics) == {
        -4: 0, -2: 4, 0: 5, 0.5: 5, 1: 7, 4: 7, 8: 10, math.inf: 10
    }  # fmt: skip


def test_fine_buckets_are_merged_to_four_a_doubling() -> None:
    metrics = read(request(exponential(count=5, scale=4, positive=side(0, 1, 1, 1, 1, 1))))

    assert by_bound(metrics) == {
        1: 0, 1.189207115002721: 4, 1.4142135623730951: 5, math.inf: 5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scale": 20, "positive": side(2**31 - 1, 1)}, {}),
        ({"scale": 0, "positive": side(1023, 1)}, {2.0**1023: 0}),
        ({"scale": -11, "positive": side(-1, 1)}, {0: 0, 1: 1}),
        ({"scale": 0, "positive": side(-(2**31), 1)}, {0: 1}),
        ({"scale": 0, "zero_count": 2, "zero_threshold": 3.0, "positive": side(0, 1, 1)},
         {-3: 0, 3: 3, 4: 4}),
    ],
)  # fmt: skip
def test_bounds_stay_within_what_a_double_holds(
    fields: dict[str, Any], expected: dict[float, float]
) -> None:
    count = sum(fields["positive"]["bucket_counts"]) + fields.get("zero_count", 0)

    metrics = read(request(exponential(count=count, **fields)))

    assert by_bound(metrics) == {**expected, math.inf: count}


@pytest.mark.parametrize(
    "fields",
    [{"scale": -12}, {"zero_threshold": -1.0}, {"zero_threshold": math.nan}],
)
def test_an_invalid_exponential_histogram_is_refused(fields: dict[str, Any]) -> None:
    metrics = read(request(exponential(count=0, **fields)))

    assert refusals(metrics) == [(0, "out_of_range")]


SIDES = st.tuples(st.integers(-30, 30), st.lists(st.integers(0, 3), max_size=30))


@given(st.integers(-4, 20), SIDES, SIDES, st.integers(0, 3))
def test_every_bucket_counts_the_observations_up_to_its_bound(
    scale: int, positive: tuple[int, list[int]], negative: tuple[int, list[int]], zeros: int
) -> None:
    def middles(offset: int, counts: list[int]) -> list[float]:
        places = (index for index, count in enumerate(counts, offset) for _ in range(count))
        return [2.0 ** ((place + 0.5) / 2.0**scale) for place in places]

    observed = [*middles(*positive), *(-one for one in middles(*negative)), *[0.0] * zeros]
    sides = {
        "positive": side(positive[0], *positive[1]),
        "negative": side(negative[0], *negative[1]),
    }
    metric = exponential(count=len(observed), scale=scale, zero_count=zeros, **sides)

    for bound, counted in by_bound(read(request(metric))).items():
        assert counted == sum(one <= bound for one in observed)


def test_a_summary_is_its_quantiles_sum_and_count() -> None:
    metrics = read(request(summary({0.0: 1.0, 0.99: 2.5, 1.0: 4.0}, count=3, sum=7.5)))

    assert rows(metrics) == [
        ("s_count", {}, 3.0),
        ("s_sum", {}, 7.5),
        ("s", {"quantile": "0"}, 1.0),
        ("s", {"quantile": "0.99"}, 2.5),
        ("s", {"quantile": "1"}, 4.0),
    ]


@pytest.mark.parametrize("quantile", [-0.1, 1.1, math.nan])
def test_a_quantile_lies_between_0_and_1(quantile: float) -> None:
    assert refusals(read(request(summary({quantile: 1.0})))) == [(0, "out_of_range")]


def test_a_point_that_is_no_protobuf_is_refused_alone() -> None:
    good = buckets([1], []).SerializeToString()
    points = b"".join(bytes_field(1, point) for point in (b"\xff\xff", good))

    metrics = decode(encoded_request(9, points + number_field(2, CUMULATIVE)), nothing_known)

    assert refusals(metrics) == [(0, "malformed_point")]
    assert metrics.points.tolist() == [0, 1, 1]

"""Histograms and summaries as plain series, as in Prometheus.

There is a series for the count, the sum, and each bucket or quantile: `_count`, `_sum`,
`_bucket{le}`, `{quantile}`. As in Prometheus, the minimum and maximum have no series and are
dropped.
"""

import math
import operator
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.decoding.exponential import FINEST_SCALE, power
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.otlp.families import Part
from infrawatch.ingest.protocols.otlp.points import is_stale
from infrawatch.ingest.protocols.otlp.wire import Message

_COUNT, _SUM = b"count", b"sum"
"""Marks of two of a point's samples; any other sample's is its bound or quantile, as a double."""

_DOUBLE = struct.Struct("=d")

_COARSEST_SCALE = -11
"""At this scale, the two buckets next to 1 cover all positive doubles."""


class Exploded(NamedTuple):
    """The samples of one data point, distinguished by their marks."""

    marks: list[bytes]
    values: list[float]
    exemplars: int = 0


Explode = Callable[[Message], Exploded | Flaw]


def explode_histogram(point: Message) -> Exploded | Flaw:
    """Cumulate the buckets as in Prometheus; the last one is the total count."""
    counts, bounds = list(point.bucket_counts), list(point.explicit_bounds)
    is_ordered = all(map(math.isfinite, bounds)) and all(map(operator.lt, bounds, bounds[1:]))
    if not is_ordered:
        return Flaw("invalid_histogram", "explicitBounds must be finite and increase")
    if len(counts) != len(bounds) + 1 and not (is_stale(point) or not (counts or bounds)):
        return Flaw(
            "invalid_histogram",
            f"{len(bounds)} explicitBounds need {len(bounds) + 1} bucketCounts, not {len(counts)}",
        )
    return _exploded(point, bounds, accumulate(counts[:-1]))


def explode_exponential(point: Message) -> Exploded | Flaw:
    """Cumulate exponential buckets at quarter powers of two, or at coarser bounds; see `_edges`."""
    if point.scale < _COARSEST_SCALE:
        return Flaw("out_of_range", f"scale is below {_COARSEST_SCALE}")
    if not 0 <= point.zero_threshold < math.inf:
        return Flaw("out_of_range", "zeroThreshold is negative or no number")
    cumulated: dict[float, int] = {}
    last = -math.inf
    for bound, count in _edges(point):
        last = max(last, bound)
        if math.isfinite(last):
            cumulated[last] = count
    return _exploded(point, list(cumulated), cumulated.values())


def explode_summary(point: Message) -> Exploded | Flaw:
    """Return count, sum and quantiles unchanged."""
    quantiles = [quantile.quantile for quantile in point.quantile_values]
    if not all(0 <= quantile <= 1 for quantile in quantiles):
        return Flaw("out_of_range", "a quantile is not between 0 and 1")
    marks = [_COUNT, _SUM, *_marks(quantiles)]
    return Exploded(
        marks, [point.count, point.sum, *(quantile.value for quantile in point.quantile_values)]
    )


def to_part(mark: bytes, *, is_summary: bool) -> Part:
    """The part of a data point that a mark stands for."""
    if mark in (_COUNT, _SUM):
        return Part(f"_{mark.decode()}")
    [bound] = _DOUBLE.unpack(mark)
    text = "+Inf" if bound == math.inf else np.format_float_positional(bound + 0.0, trim="-")
    return Part("", (("quantile", text),)) if is_summary else Part("_bucket", (("le", text),))


def _exploded(point: Message, bounds: list[float], cumulated: Iterable[int]) -> Exploded:
    """Combine the samples; without a sum if the point has none, unless it is a stale marker."""
    marks, values = [_COUNT], [point.count]
    if point.HasField("sum") or is_stale(point):
        marks.append(_SUM)
        values.append(point.sum)
    marks += _marks([*bounds, math.inf])
    values += [0] * len(bounds) if is_stale(point) else cumulated
    values.append(point.count)
    return Exploded(marks, values, len(point.exemplars))


def _marks(bounds: list[float]) -> list[bytes]:
    encoded = array("d", bounds).tobytes()
    return [encoded[start : start + 8] for start in range(0, len(encoded), 8)]


def _edges(point: Message) -> Iterator[tuple[float, int]]:
    """Yield both bounds of every non-empty bucket, each with the number of values up to it.

    The order is ascending, except around a zero bucket that overlaps its neighbours. Buckets finer
    than four per doubling are merged. Bucket i holds the values above `2^(i * 2^-scale)`, up to
    `2^((i+1) * 2^-scale)` (OpenTelemetry, "Metrics Data Model", Exponential Buckets).
    """
    step = 1 << max(FINEST_SCALE - point.scale, 0)
    total = 0
    for index, count in sorted(_merged(point.negative, point.scale).items(), reverse=True):
        yield -power((index + 1) * step), total
        total += count
        yield -power(index * step), total
    if point.zero_count:
        yield -point.zero_threshold, total
        total += point.zero_count
        yield point.zero_threshold, total
    for index, count in sorted(_merged(point.positive, point.scale).items()):
        yield power(index * step), total
        total += count
        yield power((index + 1) * step), total


def _merged(buckets: Message, scale: int) -> Counter[int]:
    shift = max(scale - FINEST_SCALE, 0)
    merged: Counter[int] = Counter()
    for index, count in enumerate(buckets.bucket_counts, start=buckets.offset):
        if count:
            merged[index >> shift] += count
    return merged

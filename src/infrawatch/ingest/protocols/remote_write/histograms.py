"""Native to classic histograms: a `_bucket` for each upper bound `le`, `_sum`, `_count`.

Source: Prometheus, "Native histograms", and the comments in `prompb/types.proto`.

Custom buckets (schema -53) represent a converted classic histogram: all its bounds are restored.
Exponential buckets are stored only if they are not empty, with both bounds, because each bound is a
series; more than four per doubling are merged, which is exact. A stale marker ends `_sum`, `_count`
and the bucket `+Inf`.
"""

import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from infrawatch.ingest.decoding.exponential import FINEST_SCALE, power
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.remote_write.messages import HISTOGRAM, parse
from infrawatch.model.samples import STALE_NAN_BITS

_CUSTOM_BUCKETS = -53
_EXPONENTIAL = range(-4, 9)

_MAX_BYTES = 64 * 1024
"""Enough for ten thousand buckets; a typical histogram has a hundred."""


class Part(NamedTuple):
    """One sample of a classic histogram: its metric's suffix, and its `le` if it is a bucket."""

    suffix: str
    le: str | None
    value: float


class Classic(NamedTuple):
    """Samples of one time: buckets in ascending order, then sum and count."""

    time_ms: int
    parts: list[Part]


def read_histogram(encoded: bytes) -> Classic | Flaw:
    """Read a native histogram, of either version, and convert it to a classic one."""
    if len(encoded) > _MAX_BYTES:
        return Flaw("invalid_histogram", f"it has more than {_MAX_BYTES} bytes")
    try:
        histogram = parse(HISTOGRAM, encoded)
        return Classic(histogram.timestamp, _to_parts(histogram))
    except ValueError as error:
        return Flaw("invalid_histogram", f"not a native histogram: {error}")


def _to_parts(histogram: Any) -> list[Part]:
    (total,) = struct.unpack("<d", struct.pack("<Q", histogram.sum))
    if histogram.sum == STALE_NAN_BITS:
        return _ending(total, total)
    held: defaultdict[float, float] = defaultdict(int)
    for bound, observations in _read_buckets(histogram):
        held[bound] += observations
    count = _read_count(histogram, sum(held.values()), is_exact=not math.isnan(total))
    bounds = sorted(bound for bound in held if bound < math.inf)
    below = accumulate(held[bound] for bound in bounds)
    buckets = [Part("_bucket", to_le(le), float(n)) for le, n in zip(bounds, below, strict=True)]
    return buckets + _ending(total, float(count))


def _ending(total: float, count: float) -> list[Part]:
    last = Part("_bucket", to_le(math.inf), count)
    return [last, Part("_sum", None, total), Part("_count", None, count)]


def to_le(bound: float) -> str:
    """Format a bound as in Prometheus (OpenMetrics, "Canonical numbers"): 0.5, 1.0, 1e+06."""
    if math.isinf(bound):
        return "+Inf" if bound > 0 else "-Inf"
    if bound == 0 or 1e-4 <= abs(bound) < 1e6:  # noqa: PLR2004  # where Go's %g needs no exponent
        return repr(bound)
    return np.format_float_scientific(bound, trim="-", exp_digits=2)


def _read_count(histogram: Any, held: float, *, is_exact: bool) -> float:
    """Read the total number of observations, and check it against the buckets.

    Float counts result from arithmetic, so they need not add up. An observed NaN is counted, but in
    no bucket; the sum is NaN then.
    """
    count: float = histogram.count_float if _is_float(histogram) else histogram.count_int
    if not 0 <= count < math.inf:
        raise ValueError("its count is negative or not finite")
    if not _is_float(histogram) and (held != count if is_exact else held > count):
        raise ValueError(f"its buckets hold {held} observations, its count is {count}")
    return count


def _read_buckets(histogram: Any) -> Iterator[tuple[float, float]]:
    """Yield the upper bound and count of each bucket, in any order, possibly repeated."""
    if histogram.schema == _CUSTOM_BUCKETS:
        return _read_custom(histogram)
    if histogram.schema in _EXPONENTIAL:
        return _read_exponential(histogram)
    raise ValueError(f"the schema {histogram.schema} is unknown")


def _read_custom(histogram: Any) -> Iterator[tuple[float, float]]:
    bounds = [*histogram.custom_values, math.inf]
    if not all(lower < upper for lower, upper in pairwise(bounds)):
        raise ValueError("its custom bounds do not ascend")
    if histogram.negative_spans or _zero_count(histogram):
        raise ValueError("custom bounds leave no room for a zero bucket and negative buckets")
    yield from ((bound, 0) for bound in bounds)
    for index, observations in _read_side(histogram, "positive"):
        if not 0 <= index < len(bounds):
            raise ValueError("it has more buckets than custom bounds")
        yield bounds[index], observations


def _read_exponential(histogram: Any) -> Iterator[tuple[float, float]]:
    """Bucket i holds the values above `2^((i-1) * 2^-schema)`, up to `2^(i * 2^-schema)`.

    Negative buckets mirror this. The lower bound of a bucket is represented by an empty bucket that
    ends there.
    """
    if observations := _zero_count(histogram):
        threshold = histogram.zero_threshold
        if not 0 <= threshold < math.inf:
            raise ValueError("its zero threshold is negative or not finite")
        yield 0.0 - threshold, 0
        yield threshold, observations
    merged = 1 << max(histogram.schema - FINEST_SCALE, 0)
    quarters = 1 << max(FINEST_SCALE - histogram.schema, 0)
    for index, observations in _read_side(histogram, "positive"):
        upper = -(-index // merged)
        yield power((upper - 1) * quarters), 0
        yield power(upper * quarters), observations
    for index, observations in _read_side(histogram, "negative"):
        lower = -(-index // merged)
        yield 0.0 - power(lower * quarters), 0
        yield 0.0 - power((lower - 1) * quarters), observations


def _read_side(histogram: Any, side: str) -> Iterator[tuple[int, float]]:
    """Yield the index and count of each non-empty positive or negative bucket."""
    if _is_float(histogram):
        counts = list(getattr(histogram, f"{side}_counts"))
    else:
        counts = list(accumulate(getattr(histogram, f"{side}_deltas")))
    spans = getattr(histogram, f"{side}_spans")
    if sum(span.length for span in spans) != len(counts):
        raise ValueError("its spans and buckets differ in number")
    if not all(0 <= count < math.inf for count in counts):
        raise ValueError("a bucket's count is negative or not finite")
    index = place = 0
    for span in spans:
        if place and span.offset < 0:
            raise ValueError("its spans overlap")
        index += span.offset
        for count in counts[place : place + span.length]:
            if count:
                yield index, count
            index += 1
        place += span.length


def _zero_count(histogram: Any) -> float:
    count: float = histogram.zero_count_float or histogram.zero_count_int
    if not 0 <= count < math.inf:
        raise ValueError("the count of its zero bucket is negative or not finite")
    return count


def _is_float(histogram: Any) -> bool:
    is_float: bool = histogram.HasField("count_float")
    return is_float

"""Encodes results as the JSON of Prometheus' HTTP API.

Source: Prometheus, "HTTP API", expression query result formats.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from pydantic_core import to_json

from infrawatch.model.samples import Float64s, Int64s, is_stale
from infrawatch.query.promql.samples import Samples
from infrawatch.query.promql.vectors import Vector, key_of

Value = Vector | Float64s | str
"""A vector or a number with a value for every moment, or a string."""

CUT = b',"warnings":["results truncated due to limit"]}'
"""The end of a response that a `limit` made shorter, in Prometheus' words."""

_DIGITS_FROM, _DIGITS_BELOW = 1e-6, 1e21
"""Between them Prometheus writes samples without exponents (its `jsonutil`)."""

_SAME_FROM, _SAME_BELOW = 1e-4, 1e16
"""Between them Python does so too."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a query at its moments; only a range such as `metric[5m]` gives samples."""

    value: Value | Samples
    moments_us: Int64s
    is_range: bool


def to_texts(values: Float64s, *, has_exponents: bool = True) -> list[str]:
    """Numbers as Prometheus writes them: scalars and labels have no exponents, samples may."""
    texts = [repr(value).removesuffix(".0") for value in values.tolist()]
    sizes = np.abs(values)
    is_plain = (sizes == 0) | ((sizes >= _SAME_FROM) & (sizes < _SAME_BELOW))
    for place in np.flatnonzero(~is_plain).tolist():
        texts[place] = _unusual(float(values[place]), has_exponents=has_exponents)
    return texts


def _unusual(value: float, *, has_exponents: bool) -> str:
    """Format a number that Python may write differently from Prometheus."""
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if not has_exponents or _DIGITS_FROM <= abs(value) < _DIGITS_BELOW:
        return np.format_float_positional(value, trim="-")
    return repr(value)


def encode(result: Result, limit: int | None = None) -> Iterator[bytes]:
    """The response to a successful query, in pieces.

    It has at most `limit` series, and a warning if some were left out.
    """
    yield b'{"status":"success","data":{"resultType":'
    is_cut = yield from _data(result, limit)
    yield b"}" + CUT if is_cut else b"}}"


def _data(result: Result, limit: int | None) -> Generator[bytes, None, bool]:
    """The response's data, in pieces; returns whether series were left out."""
    value, times = result.value, _times(result.moments_us)
    if isinstance(value, str):
        yield b'"string","result":' + to_json([times[0], value])
    elif isinstance(value, Samples):
        yield b'"matrix","result":['
        return (yield from _listed(_raw(value), limit))
    elif isinstance(value, Vector):
        yield b'"matrix","result":[' if result.is_range else b'"vector","result":['
        rows = _matrix(value, times) if result.is_range else _vector(value, times[0])
        return (yield from _listed(rows, limit))
    elif result.is_range:
        yield b'"matrix","result":['
        yield _series({}, times, value)
        yield b"]"
    else:
        yield b'"scalar","result":' + to_json([times[0], *to_texts(value[:1], has_exponents=False)])
    return False


def _matrix(vector: Vector, times: list[float]) -> Iterator[bytes]:
    """Series that have a value at some moment, in the order of their labels."""
    for row in sorted(range(len(vector.labels)), key=lambda row: key_of(vector.labels[row])):
        places = np.flatnonzero(vector.present[row])
        if len(places):
            some = [times[place] for place in places.tolist()]
            yield _series(vector.labels[row], some, vector.values[row, places])


def _vector(vector: Vector, time: float) -> Iterator[bytes]:
    rows = np.flatnonzero(vector.present[:, 0])
    for row, text in zip(rows.tolist(), to_texts(vector.values[rows, 0]), strict=True):
        yield to_json({"metric": vector.labels[row], "value": [time, text]})


def _raw(samples: Samples) -> Iterator[bytes]:
    for row, labels in enumerate(samples.labels):
        span = slice(samples.bounds[row], samples.bounds[row + 1])
        kept = ~is_stale(samples.values[span])
        if kept.any():
            times = _times(samples.times_us[span][kept])
            yield _series(labels, times, samples.values[span][kept])


def _series(labels: object, times: list[float], values: Float64s) -> bytes:
    pairs = list(zip(times, to_texts(values), strict=True))
    return to_json({"metric": labels, "values": pairs})


def _times(times_us: Int64s) -> list[float]:
    """Seconds, in whole milliseconds."""
    seconds: list[float] = (times_us // 1_000 / 1_000).tolist()
    return seconds


def _listed(parts: Iterator[bytes], limit: int | None) -> Generator[bytes, None, bool]:
    for place, part in enumerate(islice(parts, limit)):
        yield b"," + part if place else part
    yield b"]"
    return next(parts, None) is not None

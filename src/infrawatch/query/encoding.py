"""Samples as JSON, NDJSON and CSV, a series at a time."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from pydantic_core import to_json

from infrawatch.model.samples import Float64s, Int64s, is_stale, series_bounds
from infrawatch.query.plan import Found, Group, Ranges

US_PER = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
NS_PER_US = 1_000

_PIECE_BYTES = 1 << 16
"""Answers are sent in pieces of about this size: few enough, and no client waits for the whole."""

Wire = float | str | None


def to_wire_times(times_us: Int64s, precision: str) -> list[int]:
    """Times as integers in the precision asked for; coarser ones are floored."""
    if precision == "ns":
        return [time * NS_PER_US for time in times_us.tolist()]
    times: list[int] = (times_us // US_PER[precision]).tolist()
    return times


def to_wire_values(values: Float64s) -> list[Wire]:
    """Values as JSON can hold them: "NaN", "+Inf", "-Inf" as text, a stale marker as null."""
    wire: list[Wire] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        wire[place] = _to_text(values[place : place + 1])
    return wire


def encode_json(found: Found, precision: str) -> Iterator[bytes]:
    """`{"series":[{"id","metric","labels","samples":[[t,v],…]},…]}`, in pieces."""
    return _in_pieces(_wrapped(_series_objects(found, precision)))


def encode_ndjson(found: Found, precision: str) -> Iterator[bytes]:
    """The same series objects, one a line."""
    return _in_pieces(one + b"\n" for one in _series_objects(found, precision))


def encode_csv(found: Found, precision: str) -> Iterator[bytes]:
    """One line a sample: series_id, metric, labels (a JSON object), time, value (RFC 4180)."""
    return _in_pieces(_csv_blocks(found, precision))


def encode_ranges(ranges: Ranges, precision: str) -> Iterator[bytes]:
    """Like `encode_json`; a step without samples is null."""
    times = to_wire_times(ranges.steps.begins_us, precision)
    rows = zip(ranges.groups, ranges.table.values, ranges.table.empty, strict=True)

    def objects() -> Iterator[bytes]:
        for group, values, empty in rows:
            wire = to_wire_values(values)
            for place in np.flatnonzero(empty).tolist():
                wire[place] = None
            yield _series_object(group, times, wire)

    return _in_pieces(_wrapped(objects()))


def _to_text(value: Float64s) -> str | None:
    if is_stale(value)[0]:
        return None
    return "NaN" if np.isnan(value[0]) else "+Inf" if value[0] > 0 else "-Inf"


def _series_objects(found: Found, precision: str) -> Iterator[bytes]:
    columns = found.columns
    for start, end in pairwise(series_bounds(columns.series_ids).tolist()):
        series = found.series[int(columns.series_ids[start])]
        times = to_wire_times(columns.times_us[start:end], precision)
        yield _series_object(Group(*series), times, to_wire_values(columns.values[start:end]))


def _series_object(group: Group, times: list[int], values: list[Wire]) -> bytes:
    return to_json(
        {
            "id": None if group.id is None else str(group.id),
            "metric": group.metric,
            "labels": group.labels,
            "samples": list(zip(times, values, strict=True)),
        }
    )


def _csv_blocks(found: Found, precision: str) -> Iterator[bytes]:
    yield b"series_id,metric,labels,time,value\r\n"
    columns = found.columns
    for start, end in pairwise(series_bounds(columns.series_ids).tolist()):
        series = found.series[int(columns.series_ids[start])]
        name = (str(series.id), series.metric, _compact(series.labels))
        times = to_wire_times(columns.times_us[start:end], precision)
        block = io.StringIO()
        csv.writer(block).writerows(
            (*name, time, value)
            for time, value in zip(times, to_wire_values(columns.values[start:end]), strict=True)
        )
        yield block.getvalue().encode()


def _compact(labels: Mapping[str, str]) -> str:
    return json.dumps(labels, ensure_ascii=False, separators=(",", ":"))


def _wrapped(objects: Iterator[bytes]) -> Iterator[bytes]:
    yield b'{"series":['
    for place, one in enumerate(objects):
        yield one if place == 0 else b"," + one
    yield b"]}"


def _in_pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for block in blocks:
        gathered.append(block)
        size += len(block)
        if size >= _PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)

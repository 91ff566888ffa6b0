"""Samples as JSON, NDJSON and CSV, in pieces."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, pairwise

import numpy as np
from pydantic_core import to_json

from infrawatch.model.samples import Columns, series_bounds
from infrawatch.model.wire import WireValue, to_wire_times, to_wire_values
from infrawatch.query.grouping import Group, Ranges
from infrawatch.query.results import SampleStream
from infrawatch.query.steps import Table
from infrawatch.query.streaming import Pieces
from infrawatch.store.selection.catalog import Series

_PIECE_BYTES = 1 << 16
"""The approximate size of an answer's pieces: few pieces, but no client waits for the whole."""

_BLOCK_SAMPLES = 2_000
"""Samples held as Python objects at a time: about a piece of JSON, however long a series is."""

_BLOCK_ROWS = 200
"""Rows written at a time: with only a step or two each, most of the text is their labels."""

Block = list[tuple[int, WireValue]]


def encode_json(found: SampleStream, precision: str) -> Pieces:
    """`{"series":[{"id","metric","labels","samples":[[t,v],…]},…]}`, in pieces."""
    return in_pieces(_in_envelope(_series_objects(found, precision)))


def encode_ndjson(found: SampleStream, precision: str) -> Pieces:
    """The same series objects, one per line."""
    return in_pieces(
        chain.from_iterable((*one, b"\n") for one in _series_objects(found, precision))
    )


def encode_csv(found: SampleStream, precision: str) -> Pieces:
    """One line per sample: series_id, metric, labels (a JSON object), time, value (RFC 4180)."""
    return in_pieces(_csv_lines(found, precision))


def encode_ranges(ranges: Ranges, precision: str) -> Pieces:
    """Like `encode_json`; a step without samples is null."""
    begins = to_wire_times(ranges.steps.begins_us, precision)
    # All rows have the same times: they are written once, as a template for the values.
    row = b',"samples":[' + b",".join(b"[%d,%%b]" % begin for begin in begins) + b"]}"
    at_once = max(1, min(_BLOCK_ROWS, _BLOCK_SAMPLES // max(len(begins), 1)))
    yield b'{"series":['
    for first in range(0, len(ranges.groups), at_once):
        which = slice(first, first + at_once)
        heads = (_head(group).replace(b"%", b"%%") for group in ranges.groups[which])
        rows = b",".join(head + row for head in heads)
        yield (b"," if first else b"") + rows % _written(ranges.table.rows(which))
    yield b"]}"


def _written(table: Table) -> tuple[bytes, ...]:
    """The values of a table as JSON, row by row."""
    wire = to_wire_values(np.where(table.empty, 0.0, table.values).reshape(-1))
    for place in np.flatnonzero(table.empty).tolist():
        wire[place] = None
    return tuple(to_json(wire)[1:-1].split(b","))


def _series_objects(found: SampleStream, precision: str) -> Iterator[Iterator[bytes]]:
    for series, blocks in _series_blocks(found, precision):
        yield _series_object(Group(*series), (to_json(block)[1:-1] for block in blocks))


def _series_blocks(found: SampleStream, precision: str) -> Iterator[tuple[Series, Iterator[Block]]]:
    for columns in found.blocks:
        for start, end in pairwise(series_bounds(columns.series_ids).tolist()):
            some = columns.picked(slice(start, end))
            yield found.series[int(some.series_ids[0])], _blocks(some, precision)


def _blocks(columns: Columns, precision: str) -> Iterator[Block]:
    for first in range(0, len(columns), _BLOCK_SAMPLES):
        some = columns.picked(slice(first, first + _BLOCK_SAMPLES))
        times = to_wire_times(some.times_us, precision)
        yield list(zip(times, to_wire_values(some.values), strict=True))


def _series_object(group: Group, samples: Iterable[bytes]) -> Iterator[bytes]:
    yield _head(group) + b',"samples":['
    yield from with_commas(samples)
    yield b"]}"


def _head(group: Group) -> bytes:
    """A series object without its end, where its samples belong."""
    named = {
        "id": None if group.id is None else str(group.id),
        "metric": group.metric,
        "labels": group.labels,
    }
    return to_json(named)[:-1]


def _in_envelope(objects: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    yield b'{"series":['
    for place, one in enumerate(objects):
        if place:
            yield b","
        yield from one
    yield b"]}"


def with_commas(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same parts with commas between them."""
    for place, part in enumerate(parts):
        yield b"," + part if place else part


def _csv_lines(found: SampleStream, precision: str) -> Iterator[bytes]:
    yield b"series_id,metric,labels,time,value\r\n"
    for series, blocks in _series_blocks(found, precision):
        name = (str(series.id), series.metric, _compact(series.labels))
        for block in blocks:
            lines = io.StringIO()
            csv.writer(lines).writerows((*name, *sample) for sample in block)
            yield lines.getvalue().encode()


def _compact(labels: Mapping[str, str]) -> str:
    return json.dumps(labels, ensure_ascii=False, separators=(",", ":"))


def in_pieces(parts: Iterator[bytes]) -> Pieces:
    """The same bytes in larger parts."""
    gathered: list[bytes] = []
    size = 0
    for part in parts:
        gathered.append(part)
        size += len(part)
        if size >= _PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)

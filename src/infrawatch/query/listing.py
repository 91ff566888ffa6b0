"""Series, labels and metadata as JSON, in pieces: a page of series may have megabytes of labels."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from pydantic_core import to_json

from infrawatch.model.timerange import Precision
from infrawatch.model.wire import NS_PER_US, US_PER, to_wire_times, to_wire_values
from infrawatch.query.encoding import in_pieces, with_commas
from infrawatch.query.results import SelectedSamples, SeriesExtent
from infrawatch.query.streaming import Pieces
from infrawatch.store.selection.catalog import Series


def list_rows(head: bytes, rows: Iterable[object], tail: bytes) -> Pieces:
    """Write a list between `head` and `tail`."""
    return _enclosed(head, map(to_json, rows), tail)


def list_members(head: bytes, members: Iterable[tuple[str, object]], tail: bytes) -> Pieces:
    """Write the members of an object between `head` and `tail`."""
    return _enclosed(head, (to_json(key) + b":" + to_json(one) for key, one in members), tail)


def list_extents(
    page: Sequence[SeriesExtent], precision: Precision, next_cursor: str | None
) -> Pieces:
    """Write series with the times of their first and last sample."""
    rows = (
        _named(one.series)
        | {
            "first_time": _wire_time(one.first_us, precision),
            "last_time": _wire_time(one.last_us, precision),
        }
        for one in page
    )
    return list_rows(b'{"series":[', rows, b'],"next_cursor":' + to_json(next_cursor) + b"}")


def list_latest(found: SelectedSamples, precision: Precision) -> Pieces:
    """Write series with one sample each."""
    return list_rows(b'{"series":[', _latest(found, precision), b"]}")


def _latest(found: SelectedSamples, precision: Precision) -> Iterator[dict[str, object]]:
    ids = found.columns.series_ids.tolist()
    times = to_wire_times(found.columns.times_us, precision)
    values = to_wire_values(found.columns.values)
    for series_id, time, value in zip(ids, times, values, strict=True):
        yield _named(found.series[series_id]) | {"time": time, "value": value}


def _named(series: Series) -> dict[str, object]:
    return {"id": str(series.id), "metric": series.metric, "labels": series.labels}


def _wire_time(time_us: int | None, precision: Precision) -> int | None:
    if time_us is None:
        return None
    return time_us * NS_PER_US if precision == "ns" else time_us // US_PER[precision]


def _enclosed(head: bytes, parts: Iterable[bytes], tail: bytes) -> Pieces:
    return in_pieces(chain((head,), with_commas(parts), (tail,)))

"""Rows of the head: the sorted samples of several series in one window, encoded as bits."""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Bools, Columns, Float64s, Int64s, Positions, series_bounds
from infrawatch.store.chunks.codec import WINDOW_US, cut
from infrawatch.store.columns import copy
from infrawatch.store.columns.ragged import Runs
from infrawatch.store.columns.varbits import from_bits, to_bits, to_field_header, to_odd, to_sent
from infrawatch.store.selection.requested_ids import CANDIDATE_ROWS, MAY_HOLD, block_of

HEAD_COLUMNS = (
    "generation",
    "block",
    "window_at",
    "first_id",
    "last_id",
    "start_at",
    "end_at",
    "samples",
    "shard",
    "runs",
    "times",
    "values",
    "odd",
)

_SENT = [to_sent(f"k.{column}") for column in ("runs", "times", '"values"')]
HEAD_ROW = ", ".join(_SENT)
"""The columns of a row `k` that `from_row` reads."""

HEAD_FIELDS = ", ".join(f"string_agg({field}, '')" for field in _SENT)
"""The same columns of all selected rows `k`, concatenated in the order PostgreSQL reads them."""

_MANY = 32
"""Up to this many requested series of a block, only their runs are sent; beyond it, whole rows.

Finding each run takes longer the more series are requested.
"""


def _id_of(run: str) -> str:
    return f"CAST(substring(k.runs FROM 256 * ({run}) + 1 FOR 64) AS bigint)"


# If few series of a block are requested, only their runs are cut out of the rows, which mostly hold
# other series. Series created together have consecutive ids, so the id gives the position of the
# run if a row has as many runs as there are ids between its first and last; otherwise all its runs
# are examined. CASE keeps PostgreSQL from testing first, and needlessly, whether a row may hold a
# requested series at all.
HEAD_OF_REQUESTED = f"""
SELECT k.generation, k.window_at, k.start_at, k.end_at, part.*
{CANDIDATE_ROWS.format(table="chunks_head")}
CROSS JOIN LATERAL (
    SELECT k.runs, k.times, k."values"
    WHERE CASE WHEN cardinality(requested.ids) > {_MANY} THEN {MAY_HOLD} END
    UNION ALL
    SELECT CAST(numbers AS bit varying), CAST(CASE
            WHEN step_us < 0
            THEN substring(k.times FROM CAST(-63 - 64 * step_us AS integer) FOR 64 * count)
            ELSE B'' END AS bit varying),
        CAST(substring(k."values" FROM 64 * first + 1 FOR 64 * count) AS bit varying)
    FROM (
        SELECT id, generate_series(coalesce(place, 0), coalesce(place, runs - 1)) AS r
        FROM (
            SELECT id, runs, CASE
                WHEN runs = (k.last_id - k.first_id) / {SHARDS} + 1 AND {_id_of("place")} = id
                    AND {_id_of("place - 1")} <> id AND {_id_of("place + 1")} <> id
                THEN place END AS place
            FROM (
                SELECT id, CAST((id - k.first_id) / {SHARDS} AS integer) AS place,
                    length(k.runs) / 256 AS runs
                FROM (SELECT unnest(requested.ids) AS id) AS every
                WHERE id BETWEEN k.first_id AND k.last_id
            ) AS guessed
            OFFSET 0
        ) AS placed
    ) AS looked_at
    CROSS JOIN LATERAL (
        SELECT substring(k.runs FROM 256 * r + 1 FOR 256) AS numbers,
            CAST(substring(k.runs FROM 256 * r + 65 FOR 32) AS integer) AS first,
            CAST(substring(k.runs FROM 256 * r + 97 FOR 32) AS integer) AS count,
            CAST(substring(k.runs FROM 256 * r + 193 FOR 64) AS bigint) AS step_us
    ) AS run
    WHERE cardinality(requested.ids) <= {_MANY} AND {_id_of("r")} = id
) AS part
"""
"""Rows `k` for `HEAD_FIELDS`, whole or in part, with all runs of the requested series."""

_ROW_HEAD = struct.Struct(">h iq iq iq iq iq iq iq ii ih")
"""The number of fields, then the fields before the samples, each preceded by its length."""

_ROW_BYTES = 7_900
"""The most bytes of samples and runs in a row; with its other columns it fits an 8 kB page."""

_RUN = 4
"""The numbers of a run: its series id; the offset of its samples in the row and their count (32
bits each); the time of the first sample; the step between samples. For a run of uneven steps, the
step is -1 - n instead, where n is the offset of its times in the row's column `times`."""

_COUNT_BITS = 32


class HeadSamples(NamedTuple):
    """Runs of samples: run i is the next `counts[i]` samples, of one series, in order of time."""

    series_ids: Int64s
    counts: Int64s
    times_us: Int64s
    values: Float64s

    @property
    def runs(self) -> Runs:
        return Runs.of(self.counts)

    @classmethod
    def joined(cls, parts: "Sequence[HeadSamples]") -> "HeadSamples":
        """Concatenate the parts."""
        filled = [one for one in parts if len(one.counts) > 0]
        if len(filled) == 1:
            return filled[0]
        return HeadSamples._make(np.concatenate(column) for column in zip(*parts, strict=True))

    def picked(self, which: Bools | Positions) -> Columns:
        """Return the samples of the selected runs, in the order of the selection."""
        runs = self.runs.picked(which)
        places = runs.positions()
        return Columns(
            runs.spread(self.series_ids[which]), self.times_us[places], self.values[places]
        )

    def by_series(self, at_least: int) -> Iterator[Columns]:
        """Yield the samples by (shard, series), the runs of a series in their present order.

        Each part holds all samples of its series and, except for the last, at least `at_least`.
        """
        order = np.lexsort((self.series_ids, self.series_ids & (SHARDS - 1)))
        ids, totals = self.series_ids[order], np.cumsum(self.counts[order])
        bounds = series_bounds(ids)
        enough = np.searchsorted(totals, np.arange(at_least, totals[-1], at_least))
        cuts = bounds[np.searchsorted(bounds, enough + 1)]
        for which in np.split(order, np.unique(cuts[cuts < len(order)])):
            yield self.picked(which)


class _Runs(NamedTuple):
    """Runs of samples sorted by (shard, block, window, series).

    `steps_us` is -1 for runs of uneven steps; `keys` has a column (shard, block, window) per run.
    """

    columns: Columns
    runs: Runs
    keys: Int64s
    steps_us: Int64s


class _Row(NamedTuple):
    """The extent of a row, counted in runs, in samples, and in times of runs of uneven steps."""

    runs: slice
    samples: slice
    times: slice


def to_copy(columns: Columns, generation: int) -> Iterator[copy.Piece]:
    """Encode unique samples, sorted by (series, time), as rows of `HEAD_COLUMNS` for binary COPY.

    The header and the trailer of the stream are not included.
    """
    sorted_ = _sorted(columns)
    (ids, times_us, values), runs, keys, steps_us = sorted_
    times, bits = times_us - copy.PG_EPOCH_US, values.view(np.int64)
    rows = _rows(sorted_)
    starts = [row.samples.start for row in rows]
    earliest, latest = (
        extreme.reduceat(times, starts).tolist() for extreme in (np.minimum, np.maximum)
    )
    odd = to_odd(bits, starts)
    run_numbers = _run_numbers(sorted_, rows)
    uneven = times[runs.picked(steps_us < 0).positions()]
    sent_runs, sent_times, sent_values = (to_bits(one) for one in (run_numbers, uneven, bits))
    windows_at = (keys[2] * WINDOW_US - copy.PG_EPOCH_US).tolist()
    firsts = ids[starts].tolist()
    for number, row in enumerate(rows):
        shard, block, _ = keys[:, row.runs.start].tolist()
        yield _ROW_HEAD.pack(
            *(len(HEAD_COLUMNS), 8, generation, 8, block, 8, windows_at[row.runs.start]),
            *(8, firsts[number], 8, int(ids[row.samples.stop - 1])),
            *(8, earliest[number], 8, latest[number]),
            *(4, row.samples.stop - row.samples.start, 2, shard),
        )
        yield from _field(sent_runs, row.runs, numbers=_RUN)
        yield from _field(sent_times, row.times)
        yield from _field(sent_values, row.samples)
        yield odd[number]


def from_row(fields: Sequence[bytes | None]) -> HeadSamples:
    """Decode the result of `HEAD_FIELDS`, whose fields are all NULL if there were no rows."""
    run_numbers, times, values = map(from_bits, fields)
    ids, counts, firsts, steps = run_numbers.reshape(-1, _RUN).T
    runs = Runs.of(counts & (1 << _COUNT_BITS) - 1)
    times_us = runs.spread(firsts + copy.PG_EPOCH_US - steps * runs.starts)
    times_us += runs.spread(steps) * np.arange(runs.total)
    if len(times) > 0:
        times_us[runs.picked(steps < 0).positions()] = times + copy.PG_EPOCH_US
    return HeadSamples(ids, runs.counts, times_us, values.view(np.float64))


def _field(column: memoryview, part: slice, *, numbers: int = 1) -> Iterator[copy.Piece]:
    yield to_field_header(numbers * (part.stop - part.start))
    yield column[8 * numbers * part.start : 8 * numbers * part.stop]


def _sorted(columns: Columns) -> _Runs:
    runs = cut(columns)
    ids, windows = columns.series_ids[runs.starts], columns.times_us[runs.starts] // WINDOW_US
    keys = np.stack((ids & (SHARDS - 1), block_of(ids), windows))
    order = np.lexsort((ids, *keys[::-1]))
    if (np.diff(order) != 1).any():
        moved = runs.picked(order)
        columns, runs, keys = (
            columns.picked(moved.positions()),
            Runs.of(moved.counts),
            keys[:, order],
        )
    steps_us, is_uneven = runs.steps(columns.times_us)
    return _Runs(columns, runs, keys, np.where(is_uneven, -1, steps_us))


def _rows(parts: _Runs) -> list[_Row]:
    """Cut the runs into rows: consecutive runs with equal keys, as many as fit."""
    _, runs, keys, steps_us = parts
    uneven = np.where(steps_us < 0, runs.counts, 0)
    sizes = 8 * (_RUN + runs.counts + uneven)
    bytes_until, samples, times = (
        [0, *np.cumsum(one).tolist()] for one in (sizes, runs.counts, uneven)
    )
    rows: list[_Row] = []
    first = 0
    for last in (Runs.of_equal(*keys).lasts + 1).tolist():
        while first < last:
            fitting = bisect_right(bytes_until, bytes_until[first] + _ROW_BYTES, first, last + 1)
            end = fitting - 1
            spans = (slice(one[first], one[end]) for one in (samples, times))
            rows.append(_Row(slice(first, end), *spans))
            first = end
    return rows


def _run_numbers(parts: _Runs, rows: Sequence[_Row]) -> Int64s:
    """Return the numbers of the column `runs`, run by run."""
    (ids, times_us, _), runs, _, steps_us = parts
    sizes = [row.runs.stop - row.runs.start for row in rows]
    before = runs.starts - np.repeat([row.samples.start for row in rows], sizes)
    times = Runs.of(np.where(steps_us < 0, runs.counts, 0)).starts
    times = times - np.repeat([row.times.start for row in rows], sizes)
    columns = (
        ids[runs.starts],
        before << _COUNT_BITS | runs.counts,
        times_us[runs.starts] - copy.PG_EPOCH_US,
        np.where(steps_us < 0, -1 - times, steps_us),
    )
    return np.stack(columns, axis=1).reshape(-1)

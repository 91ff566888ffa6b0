"""Fast path for the usual line protocol: every line is `name,tag=value field=1.5 1790000000000`.

The text before the last `=` of such a line names its series and repeats from batch to batch, so it
is only looked up. The rest, the number and the time, is parsed for all lines at once.

Why the result is correct: a line that begins with a match of `grammar.KEY` and continues with one
number, one space and one time has only one reading. New keys are checked against the grammar here,
the rests every time. If any line has another form, the body is not read here but by the slower
decoders.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.decoding.numbers import MAX_WIDTH
from infrawatch.ingest.protocols.influx import grammar
from infrawatch.ingest.protocols.influx.decimals import read_decimals, read_integers
from infrawatch.ingest.protocols.influx.keys import END, find_ends, read_runs
from infrawatch.ingest.protocols.influx.layouts import LineLayout
from infrawatch.ingest.scheduling.loop_budget import find_known
from infrawatch.ingest.series.layouts import FEWEST_PIECES, Layouts
from infrawatch.ingest.verdicts import Verdict
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Float64s, Int64s, Positions

_Numbers = tuple[Float64s, Int64s]
"""Values and times."""


class _Lines(NamedTuple):
    """A body, and where its lines start, have the space before their time, and end."""

    body: bytes
    starts: Positions
    spaces: Positions
    ends: Positions


def decode_regular(
    body: bytes,
    newlines: Positions,
    unit_ns: int,
    find: Find,
    layouts: Layouts | None = None,
    *,
    on_loop: bool = False,
) -> Decoded | None:
    """Read a body in the regular form, given its newlines; None if it has another or is invalid.

    Raises:
        BlocksLoop: on the loop only, if it would take too long.
    """
    lines = _to_lines(body, newlines)
    if lines is None:
        return None
    first = body[: lines.ends[0]].rpartition(END)[0]
    if not grammar.KEY.fullmatch(first):
        return None
    layout = layouts.find((len(lines.ends), first), LineLayout) if layouts else None
    starts = layout.find_ends(body, lines.starts, lines.ends) if layout else None
    if layout and starts is not None:
        numbers = _read_numbers(lines, starts)
        return numbers and _to_decoded(layout.keys, layout.counts, numbers, unit_ns, layout.ids)
    return _decode_lines(lines, unit_ns, partial(find_known, find, on_loop=on_loop), layouts)


def _to_lines(body: bytes, newlines: Positions) -> _Lines | None:
    """Divide a body into lines; None unless each ends with a space and as many characters."""
    ends = newlines if body.endswith(b"\n") else np.append(newlines, len(body))
    starts = np.append(0, ends[:-1] + 1)
    spaces = ends - (int(ends[0]) - body.rfind(b" ", 0, int(ends[0])))
    if (spaces < starts).any() or (np.frombuffer(body, np.uint8)[spaces] != ord(" ")).any():
        return None
    return _Lines(body, starts, spaces, ends)


def _decode_lines(
    lines: _Lines, unit_ns: int, find: Find, layouts: Layouts | None
) -> Decoded | None:
    ends = find_ends(lines.body, lines.starts, lines.spaces)
    numbers = None if ends is None else _read_numbers(lines, ends + len(END))
    if ends is None or numbers is None:
        return None
    keys, counts = read_runs(lines.body, lines.starts, ends)
    new = (key for key, series_id in zip(keys, find(keys), strict=True) if series_id is None)
    if not all(map(grammar.KEY.fullmatch, new)):
        return None
    decoded = _to_decoded(keys, counts, numbers, unit_ns)
    if layouts and len(lines.ends) >= FEWEST_PIECES:
        to_layout = partial(LineLayout.of, keys, END, counts)
        decoded.learn = partial(layouts.learn, (len(lines.ends), keys[0]), to_layout)
    return decoded


def _read_numbers(lines: _Lines, starts: Positions) -> _Numbers | None:
    """Read values, which start there, and times, all equally wide."""
    width = int(lines.ends[0] - lines.spaces[0]) - 1
    if not 0 < width <= MAX_WIDTH or (lines.spaces <= starts).any():
        return None
    times = read_integers(lines.body, lines.ends, width)
    if times is None or times.max() > grammar.MAX_TIME:
        return None
    values = read_decimals(lines.body, starts, lines.spaces)
    return None if values is None else (values, times.astype(np.int64))


def _to_decoded(
    keys: Sequence[bytes],
    counts: Positions,
    numbers: _Numbers,
    unit_ns: int,
    ids: Int64s | None = None,
) -> Decoded:
    values, times = numbers
    firsts = np.cumsum(counts) - counts

    def name_of(number: int) -> SeriesName | list[Verdict]:
        name = grammar.to_name(keys[number])
        if isinstance(name, SeriesName):
            return name
        lines = range(int(firsts[number]) + 1, int(firsts[number] + counts[number]) + 1)
        return [Verdict(line, "name", name.code, name.detail) for line in lines]

    return Decoded(
        keys=keys,
        name_of=name_of,
        locate=lambda number, sample: (int(firsts[number]) + sample + 1, "time"),
        counts=counts,
        times=times,
        values=values,
        unit_ns=unit_ns,
        ids=ids,
    )

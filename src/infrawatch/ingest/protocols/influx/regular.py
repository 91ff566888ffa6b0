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
from itertools import compress
from operator import itemgetter, ne

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.decoding.numbers import MAX_WIDTH, read_array, read_digits, windows
from infrawatch.ingest.protocols.influx import grammar
from infrawatch.ingest.scheduling.loop_budget import find_known
from infrawatch.ingest.series.prefixes import KnownPrefixes
from infrawatch.ingest.verdicts import Verdict
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Float64s, Int64s

_END = b"="
"""Ends the key of a series; the number follows."""


def decode_regular(
    body: bytes,
    unit_ns: int,
    find: Find,
    known: KnownPrefixes | None = None,
    *,
    on_loop: bool = False,
) -> Decoded | None:
    """Read a body in the regular form; None if it has another form or is invalid.

    Raises:
        BlocksLoop: on the loop only, if it would take too long.
    """
    lines = body.removesuffix(b"\n").split(b"\n")
    first = lines[0].rpartition(_END)[0]
    if not grammar.KEY.fullmatch(first):
        return None
    prefixes = known and known.recall(len(lines), first)
    rests = prefixes and prefixes.stripped(lines)
    if prefixes and rests:
        numbers = _read_numbers(rests)
        if numbers is None:
            return None
        return _to_decoded(prefixes.keys, prefixes.firsts, numbers, unit_ns, prefixes.ids)
    parts = [line.rpartition(_END) for line in lines]
    numbers = _read_numbers(list(map(itemgetter(2), parts)))
    if numbers is None:
        return None
    keys, firsts = _to_runs(list(map(itemgetter(0), parts)))
    ids = find_known(find, keys, on_loop=on_loop)
    if not all(
        grammar.KEY.fullmatch(key)
        for key, series_id in zip(keys, ids, strict=True)
        if series_id is None
    ):
        return None
    decoded = _to_decoded(keys, firsts, numbers, unit_ns)
    if known:
        decoded.learn = partial(known.learn, keys, _END, firsts)
    return decoded


def _read_numbers(rests: Sequence[bytes]) -> tuple[Float64s, Int64s] | None:
    """Read values and times, each `1.5 1790000000000`; all times must be equally wide."""
    width = len(rests[0]) - rests[0].find(b" ") - 1
    if not 0 < width <= MAX_WIDTH:
        return None
    text = bytearray(b"\n".join(rests) + b"\n")
    characters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    # The window of a rest that is too short includes the newline before it.
    every, starts = windows(text, width + 1), ends - (width + 1)
    times = _read_times(every[starts])
    # One space and one newline per line: no other whitespace is left that JSON would skip.
    if times is None or np.count_nonzero(characters <= ord(" ")) != 2 * len(ends):
        return None
    every[starts] = ord(" ")
    characters[ends] = ord(",")
    characters[-1] = ord("]")
    values = read_array(b"[" + text)
    if values is None or len(values) != len(times):
        return None
    if not values.all() and b"-0 " in text:  # JSON reads it as an integer, without negative zero
        return None
    return values, times


def _read_times(rows: NDArray[np.uint8]) -> Int64s | None:
    """Read rows of a space and digits."""
    times = read_digits(rows[:, 1:])
    if times is None or (rows[:, 0] != ord(" ")).any() or times.max() > grammar.MAX_TIME:
        return None
    return times.astype(np.int64)


def _to_runs(keys: Sequence[bytes]) -> tuple[list[bytes], NDArray[np.intp]]:
    """Merge equal neighbours; also return where each run begins and, as the last, the end."""
    is_first = [True, *map(ne, keys[1:], keys)]
    return list(compress(keys, is_first)), np.flatnonzero([*is_first, True])


def _to_decoded(
    keys: Sequence[bytes],
    firsts: NDArray[np.intp],
    numbers: tuple[Float64s, Int64s],
    unit_ns: int,
    ids: Int64s | None = None,
) -> Decoded:
    values, times = numbers

    def name_of(number: int) -> SeriesName | list[Verdict]:
        name = grammar.to_name(keys[number])
        if isinstance(name, SeriesName):
            return name
        lines = range(int(firsts[number]) + 1, int(firsts[number + 1]) + 1)
        return [Verdict(line, "name", name.code, name.detail) for line in lines]

    return Decoded(
        keys=keys,
        name_of=name_of,
        locate=lambda number, sample: (int(firsts[number]) + sample + 1, "time"),
        counts=np.diff(firsts),
        times=times,
        values=values,
        unit_ns=unit_ns,
        ids=ids,
    )

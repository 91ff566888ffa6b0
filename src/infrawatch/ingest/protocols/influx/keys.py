"""The keys of all lines of a body, each followed by `=`, a number, a space and a time."""

from collections.abc import Sequence
from itertools import compress
from operator import ne

import numpy as np

from infrawatch.ingest.protocols.influx.pieces import gather, half_width, to_rows
from infrawatch.model.samples import Bools, Positions
from infrawatch.store.columns.ragged import Runs

END = b"="
"""Ends the key of a series; the number follows."""

_WINDOW_SHIFT = 5
_WINDOW = 1 << _WINDOW_SHIFT
"""Longer than most numbers; for a key that ends before it, the line is searched by itself."""


def find_ends(text: bytes, starts: Positions, spaces: Positions) -> Positions | None:
    """Return where the last `=` before each space is; None if a line has none, or no key."""
    windows = np.frombuffer(gather(text, spaces - _WINDOW, _WINDOW), np.uint8)
    found = np.flatnonzero(windows == ord(END))
    places = np.full(len(spaces), -1)
    places[found >> _WINDOW_SHIFT] = found & (_WINDOW - 1)  # the last one of a window remains
    ends = spaces - _WINDOW + places
    for line in np.flatnonzero(places < 0).tolist():
        ends[line] = text.rfind(END, int(starts[line]), int(spaces[line]))
    return None if (ends <= starts).any() else ends


def read_runs(text: bytes, starts: Positions, ends: Positions) -> tuple[Sequence[bytes], Positions]:
    """Return the keys, of equal neighbours only one, and how many lines each one has."""
    firsts = np.flatnonzero(_may_differ(text, starts, ends))
    spans = zip(starts[firsts].tolist(), ends[firsts].tolist(), strict=True)
    keys = [text[start:end] for start, end in spans]
    is_first = [True, *map(ne, keys[1:], keys)]
    return list(compress(keys, is_first)), Runs.at(firsts[is_first], len(starts)).counts


def _may_differ(text: bytes, starts: Positions, ends: Positions) -> Bools:
    """Mark the lines whose key may differ from the one before; the keys of all others do not.

    Of each key, its head and its tail are compared, which together are longer than most keys, and
    not longer than any by themselves.
    """
    lengths = ends - starts
    width = half_width(int(lengths.min()), int(lengths.max()))
    is_same = (lengths[1:] == lengths[:-1]) & (lengths[1:] <= 2 * width)
    for at in (starts, ends - width):
        rows = to_rows(gather(text, at, width))
        is_same &= (rows[1:] == rows[:-1]).all(axis=1)
    return np.append(True, ~is_same)

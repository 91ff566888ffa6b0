"""Recent entries: an earlier arrival that is applied late does not replace a later one."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

import numpy as np

from infrawatch.model.samples import Columns, is_among, latest_arrivals
from infrawatch.model.timerange import US
from infrawatch.store.journal import Entry

RECENT_US = 60 * US
"""How far apart arrivals applied out of order may be: above any transaction's deadline."""

MAX_SAMPLES = 1_000_000
"""24 MB; at a rate that fills this sooner, entries are kept for fewer seconds."""


class RecentEntries:
    """Entries in order of arrival, which is by (arrival, writer, seq).

    Entries of different writers may be applied in another order; the later arrival wins, as in the
    store.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._samples = 0

    def clear(self) -> None:
        self._entries.clear()
        self._samples = 0

    def add(self, entry: Entry) -> Columns:
        """Keep an entry; returns its samples without those that a later arrival replaced."""
        entries = self._entries
        place = len(entries)
        if entries and _rank(entries[-1]) > _rank(entry):
            place = bisect_right(entries, _rank(entry), key=_rank)
        columns = entry.columns
        for later in range(place, len(entries)):
            columns = _without(columns, entries[later].columns)
        entries.insert(place, entry)
        self._samples += len(entry.columns)
        self._forget(entries[-1].at_us - RECENT_US)
        return columns

    def _forget(self, before_us: int) -> None:
        entries = self._entries
        while len(entries) > 1 and (entries[0].at_us < before_us or self._samples > MAX_SAMPLES):
            self._samples -= len(entries.popleft().columns)


def unreplaced(parts: Sequence[Columns], is_known: Sequence[bool]) -> Columns:
    """The samples that a viewer with the known parts needs to have the result of all parts.

    The parts are in order of arrival. If any is known, a sample of an unknown part is left out if
    there is a later one, known or not, with the same series and time.
    """
    if not any(is_known):
        return Columns.joined(parts)
    every = Columns.joined(parts)
    # Positions stand in for values, so that the result gives the places of the last arrivals.
    positions = np.arange(len(every), dtype=np.float64)
    numbered = Columns(every.series_ids, every.times_us, positions)
    last = latest_arrivals(numbered).values.astype(np.intp)
    is_old = np.repeat(is_known, [len(part) for part in parts])
    return every.picked(last[~is_old[last]])


def _rank(entry: Entry) -> tuple[int, int, int]:
    return entry.at_us, entry.writer, entry.seq


def _without(columns: Columns, others: Columns) -> Columns:
    """The samples whose series and time do not occur among the others."""
    suspects = np.flatnonzero(is_among(columns.series_ids, np.unique(others.series_ids)))
    if len(suspects) == 0:  # writers rarely share series: a sender stays with its connection
        return columns
    taken = set(zip(others.series_ids.tolist(), others.times_us.tolist(), strict=True))
    part = columns.picked(suspects)
    pairs = zip(part.series_ids.tolist(), part.times_us.tolist(), strict=True)
    is_kept = np.ones(len(columns), np.bool_)
    is_kept[suspects] = [pair not in taken for pair in pairs]
    return columns.picked(is_kept)

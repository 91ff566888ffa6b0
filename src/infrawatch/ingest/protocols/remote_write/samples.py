"""Samples of a request as columns: read in pieces, then combined in the request's order."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from infrawatch.model.samples import Bools, Float64s, Int64s, Positions
from infrawatch.store.columns.ragged import Runs


class Samples(NamedTuple):
    """Samples of several series, one after the other, with `counts[n]` of the n-th."""

    counts: Positions
    times_ms: Int64s
    values: Float64s

    def picked(self, which: Bools) -> "Samples":
        """Select the samples of some of the series."""
        if which.all():
            return self
        kept = Runs.of(self.counts).spread(which)
        return Samples(self.counts[which], self.times_ms[kept], self.values[kept])


class Piece(NamedTuple):
    """Samples, and the indexes of their series in the request."""

    indexes: Positions
    samples: Samples


def combine(pieces: Sequence[Piece], series: int) -> Samples:
    """Combine the samples of a request in its order; the pieces have no series in common."""
    pieces = [piece for piece in pieces if piece.indexes.size]
    if len(pieces) == 1 and len(pieces[0].indexes) == series:
        return pieces[0].samples
    counts = np.zeros(series, np.intp)
    for indexes, samples in pieces:
        counts[indexes] = samples.counts
    runs = Runs.of(counts)
    times, bits = np.empty((2, runs.total), np.int64)
    for indexes, samples in pieces:
        places = runs.picked(indexes).positions()
        times[places] = samples.times_ms
        bits[places] = samples.values.view(np.int64)
    return Samples(counts, times, bits.view(np.float64))

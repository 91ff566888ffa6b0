"""Samples cut where buckets and windows begin, once for all that is made of them."""

from typing import NamedTuple, Self

import numpy as np

from infrawatch.model.samples import Bools, Columns, Int64s
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.store.columns.ragged import Runs
from infrawatch.store.rollups.buckets import FIVE_MINUTES, Buckets


class CutSamples(NamedTuple):
    """Samples, unique and sorted by (shard, series, time), in runs of one series and bucket.

    `windows` are runs of one series and window; each has the next `sizes[i]` buckets.
    """

    samples: Columns
    buckets: Runs
    windows: Runs
    sizes: Int64s

    @classmethod
    def of(cls, samples: Columns) -> Self:
        """Cut the samples."""
        buckets = Buckets.runs_of(samples, FIVE_MINUTES.bucket_us)
        ids, times_us = samples.series_ids[buckets.starts], samples.times_us[buckets.starts]
        parts = Runs.of_equal(ids, times_us // WINDOW_US)
        windows = Runs.at(buckets.starts[parts.starts], len(samples))
        return cls(samples, buckets, windows, parts.counts)

    def picked(self, which: Bools) -> "CutSamples":
        """Return the windows where the mask is true."""
        if which.all():
            return self
        return CutSamples(
            self.samples.picked(self.windows.spread(which)),
            Runs.of(self.buckets.counts[np.repeat(which, self.sizes)]),
            Runs.of(self.windows.counts[which]),
            self.sizes[which],
        )

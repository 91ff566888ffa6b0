"""The stored samples of some series in a span: fetched packed, unpacked block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from infrawatch.errors import QueryTooBroad
from infrawatch.model.samples import Columns, latest_arrivals
from infrawatch.model.timerange import TimeRange
from infrawatch.store.chunks.codec import Chunks, blocks, decode


@dataclass(frozen=True, slots=True)
class PackedSamples:
    """Chunks that overlap the span, and the samples that arrived after they were closed.

    The items of `closed` hold disjoint series in ascending order. `recent` lies within the span and
    holds the samples of each series in order of arrival.
    """

    span: TimeRange
    closed: Sequence[Chunks]
    recent: Columns
    max_samples: int

    def __len__(self) -> int:
        """The number of samples to unpack: an upper bound of those in the span."""
        return len(self.recent) + sum(int(chunks.counts.sum()) for chunks in self.closed)

    def blocks(self) -> Iterator[Columns]:
        """Yield the span's samples in blocks of whole series, sorted by (series, time), unique.

        A single array of all samples would touch fresh pages of memory, which takes longer than
        unpacking.

        Raises:
            QueryTooBroad: there are more than `max_samples` samples.
        """
        recent = latest_arrivals(self.recent)
        total = start = 0
        for chunks in chain.from_iterable(map(blocks, self.closed)):
            last_id = chunks.series_ids.max()
            end = int(np.searchsorted(recent.series_ids, last_id, "right"))
            parts = decode(chunks, self.span), recent.picked(slice(start, end))
            start = end
            block = latest_arrivals(Columns.joined(parts))
            total += len(block)
            check_total(total, self.max_samples)
            yield block
        others = recent.picked(slice(start, None))
        check_total(total + len(others), self.max_samples)
        if len(others) > 0 or total == 0:  # yield at least one block
            yield others

    def settled(self) -> "PackedSamples":
        """Return a copy whose `recent` is sorted and unique and whose `blocks` does not raise.

        Raises:
            QueryTooBroad: there are more than `max_samples` samples.
        """
        stored = replace(self, recent=latest_arrivals(self.recent))
        if len(stored) > stored.max_samples:  # count exactly: without duplicates, within the span
            for _ in stored.blocks():
                pass
        return stored

    def samples(self) -> Columns:
        """Return all blocks joined into one."""
        return Columns.joined(list(self.blocks()))


def check_total(samples: int, max_samples: int) -> None:
    """Check the number of samples a query reads against its limit.

    Raises:
        QueryTooBroad: `samples` exceeds `max_samples`.
    """
    if samples > max_samples:
        raise QueryTooBroad(
            f"more than {max_samples} samples would have to be read: ask for a shorter span or "
            "fewer series, or raise INFRAWATCH_READ_MAX_SAMPLES"
        )

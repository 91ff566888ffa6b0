"""What is stored of some series in a span: fetched packed, unpacked a block at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from infrawatch.errors import QueryTooBroad
from infrawatch.model.samples import Columns, latest_arrivals
from infrawatch.model.timerange import TimeRange
from infrawatch.store.codec import Chunks, blocks, decode


@dataclass(frozen=True, slots=True)
class Stored:
    """Chunks that touch the span, and what arrived after they were closed.

    Each of `closed` has series of its own, beyond those of the one before; `recent` lies in the
    span, and of each series in order of arrival.
    """

    span: TimeRange
    closed: Sequence[Chunks]
    recent: Columns
    max_samples: int

    def __len__(self) -> int:
        """How many samples have to be unpacked, about; no more are in the span."""
        return len(self.recent) + sum(int(chunks.counts.sum()) for chunks in self.closed)

    def blocks(self) -> Iterator[Columns]:
        """The samples in the span, some whole series at a time, sorted by (series, time), unique.

        All of them at once would fill fresh pages of memory, which takes longer than unpacking.

        Raises:
            QueryTooBroad: there are more than `max_samples`.
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
        if len(others) > 0 or total == 0:  # there is one block at least
            yield others

    def settled(self) -> "Stored":
        """The same, of which `blocks` will not raise, and sorts nothing that it need not keep.

        Raises:
            QueryTooBroad: there are more than `max_samples`.
        """
        stored = replace(self, recent=latest_arrivals(self.recent))
        if len(stored) > stored.max_samples:  # but some lie beyond the span, or are there twice
            for _ in stored.blocks():
                pass
        return stored

    def samples(self) -> Columns:
        """All blocks as one."""
        return Columns.joined(list(self.blocks()))


def check_total(samples: int, most: int) -> None:
    """Hold a question to what it may read.

    Raises:
        QueryTooBroad: it is more.
    """
    if samples > most:
        raise QueryTooBroad(
            f"more than {most} samples would have to be read: ask for a shorter span or fewer "
            "series, or raise INFRAWATCH_READ_MAX_SAMPLES"
        )

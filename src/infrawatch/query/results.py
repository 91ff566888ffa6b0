"""Results of queries: series, with their samples or with the times these span."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from infrawatch.model.samples import Columns
from infrawatch.store.selection.catalog import Series


class SelectedSamples(NamedTuple):
    """Series by id, and their samples sorted by (series, time)."""

    series: Mapping[int, Series]
    columns: Columns
    deltas: AbstractSet[str] = frozenset()
    """Metrics of delta temporality, whose samples are increments; filled by `Reader.find`."""


class SampleStream(NamedTuple):
    """Series by id, and their samples in blocks of whole series, sorted by (series, time).

    Blocks are unpacked on demand, so that an answer takes little memory however slowly a client
    reads it. They hold at most `samples` samples in total.
    """

    series: Mapping[int, Series]
    blocks: Iterable[Columns]
    samples: int


class SeriesExtent(NamedTuple):
    """A series, and the first and last time in µs of its samples; None if it has none."""

    series: Series
    first_us: int | None
    last_us: int | None

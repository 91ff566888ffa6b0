"""What was found: series, and their samples or what else was asked for."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from infrawatch.model.samples import Columns
from infrawatch.store.known import Series


class Found(NamedTuple):
    """Series by id, and their samples sorted by (series, time)."""

    series: Mapping[int, Series]
    columns: Columns
    deltas: AbstractSet[str] = frozenset()
    """Metrics of which each sample is what was added; filled where that is asked for."""


class Packed(NamedTuple):
    """Series by id, and their samples some whole series at a time, sorted by (series, time).

    They are unpacked as they are asked for, so that an answer takes little memory however long
    somebody takes to read it. There are at most `samples` of them.
    """

    series: Mapping[int, Series]
    blocks: Iterable[Columns]
    samples: int


class Ends(NamedTuple):
    """A series, and the first and last time in µs it has samples for; None when it has none."""

    series: Series
    first_us: int | None
    last_us: int | None

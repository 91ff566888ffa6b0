"""What every decoder makes of a body: columns, and verdicts on what has no place in them."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Float64s, Int64s
from infrawatch.store.metadata import Metadata

NameOf = Callable[[int], SeriesName | list[Verdict]]
"""Reads and checks the name of the n-th series; asked only when its key is not known yet."""

Find = Callable[[Sequence[Hashable]], Sequence[int | None]]
"""Says which keys of this tenant and format are known: their series' ids, None for the others."""

Locate = Callable[[int, int], tuple[int, str]]
"""Says where a sample stood: (n-th series, n-th sample of it) → a verdict's index and locator."""


@dataclass(slots=True)
class Decoded:
    """One batch as columns.

    Series and samples are parallel: series n has the next `counts[n]` of `times` and `values`, in
    the order of the batch. `times` are integers in units of `unit_ns` nanoseconds since the epoch;
    `written_unit_ns` is that of the sender, if it is another. `keys` are whatever bytes or text
    named a series: equal keys of one format are equal series, so a key that was checked once never
    has to be read again. `ids` are those of the series, if the decoder knows them all already.
    `metadata` may grow while names are read. Exemplars are not stored, only counted.
    """

    keys: Sequence[Hashable]
    name_of: NameOf
    locate: Locate
    counts: NDArray[np.intp]
    times: Int64s
    values: Float64s
    unit_ns: int
    metadata: Mapping[str, Metadata] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=Verdicts)
    exemplars: int = 0
    ids: Int64s | None = None
    written_unit_ns: int | None = None

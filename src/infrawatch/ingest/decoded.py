"""The output of every decoder: columns, and verdicts on everything that is refused."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Float64s, Int64s
from infrawatch.store.metadata import Metadata

MS_NS = 1_000_000
"""The `unit_ns` of most formats: milliseconds."""

NameOf = Callable[[int], SeriesName | list[Verdict]]
"""Reads and checks the name of the n-th series; called only if its key is unknown."""

Find = Callable[[Sequence[Hashable]], Sequence[int | None]]
"""Looks up the keys of this tenant and format: the ids of known series, None for the others."""


class Learn(Protocol):
    """Remembers a body without its numbers, so that the next one like it is read faster."""

    def __call__(self, ids: Int64s, *, are_new: bool) -> None:
        """Learn, given the ids of all series and whether most of them are new."""


Locate = Callable[[int, int], tuple[int, str]]
"""Locates a sample: (n-th series, n-th sample of it) → a verdict's index and locator."""


@dataclass(slots=True)
class Decoded:
    """One batch as columns.

    Series and samples are parallel: series n has the next `counts[n]` of `times` and `values`, in
    the order of the batch. `times` are integers in units of `unit_ns` nanoseconds since the epoch;
    `written_unit_ns` is the sender's unit, if it differs. `keys` are the bytes or text that name a
    series: within a format, equal keys mean equal series, so a key that was checked once is never
    parsed again. `ids` are the ids of the series, if the decoder already knows all of them.
    `metadata` may grow while names are read. Exemplars are not stored, only counted. `learn` is
    called once all series have an id.
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
    learn: Learn | None = None

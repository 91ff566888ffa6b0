"""Data points of histograms and summaries: each has many samples, of as many series."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.otlp.families import (
    DIGEST_BYTES,
    MAX_SAMPLES,
    Family,
    digest,
    find_flaw,
    too_large,
)
from infrawatch.ingest.protocols.otlp.histograms import (
    Explode,
    explode_exponential,
    explode_histogram,
    explode_summary,
    to_part,
)
from infrawatch.ingest.protocols.otlp.points import is_stale, parse_point
from infrawatch.ingest.protocols.otlp.wire import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Message,
    SummaryDataPoint,
    encode_attributes,
)
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import STALE_NAN_BITS, Float64s
from infrawatch.store.metadata import Metadata

_KINDS: Mapping[str, tuple[Message, Explode]] = {
    "histogram": (HistogramDataPoint, explode_histogram),
    "exponential_histogram": (ExponentialHistogramDataPoint, explode_exponential),
    "summary": (SummaryDataPoint, explode_summary),
}


class DistributionPoints:
    """The data points of all histograms and summaries of a request, in order.

    `keys` has one entry per sample, `times` one per point. A point that is refused regardless of
    its name has one sample, with None for its key.
    """

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []
        self.times: list[int] = []
        self.exemplars = 0
        self._values: list[float] = []
        self._starts: list[int] = []
        self._origins: list[tuple[Family, int]] = []
        self._attributes: list[bytes] = []
        self._stale: list[slice] = []
        self._flaws: dict[int, Flaw] = {}

    def add(self, begin: bytes, family: Family, points: Sequence[bytes]) -> None:
        """Add the data points of one metric, whose keys depend on `begin`.

        Raises:
            BatchTooLarge: the request has too many samples.
        """
        kind, explode = _KINDS[family.field]
        flaw = find_flaw(family.metric, family.field)
        for place, encoded in enumerate(points):
            start = len(self.keys)
            self._starts.append(start)
            self._origins.append((family, place))
            point = parse_point(kind, encoded)
            exploded = point if isinstance(point, Flaw) else flaw or explode(point)
            if isinstance(exploded, Flaw):
                self._refuse(exploded)
                continue
            attributes = encode_attributes(point.attributes)
            mark = digest(begin, attributes)
            self.keys += [mark + part for part in exploded.marks]
            self.times.append(point.time_unix_nano)
            self._values += exploded.values
            self._attributes.append(attributes)
            self.exemplars += exploded.exemplars
            if is_stale(point):
                self._stale.append(slice(start, len(self.keys)))
            if len(self.keys) > MAX_SAMPLES:
                raise too_large()

    def counts(self) -> NDArray[np.intp]:
        """Return the number of samples of each point."""
        ends = np.array([*self._starts[1:], len(self.keys)], np.intp)
        return ends[: len(self._starts)] - np.array(self._starts, np.intp)

    def values(self) -> Float64s:
        values = np.array(self._values, np.float64)
        for samples in self._stale:
            values.view(np.int64)[samples] = STALE_NAN_BITS
        return values

    def to_name(self, sample: int) -> SeriesName | Flaw:
        """Name the series of a sample whose key is unknown."""
        key = self.keys[sample]
        if key is None:
            return self._flaws[sample]
        point = bisect_right(self._starts, sample) - 1
        family, _ = self._origins[point]
        part = to_part(key[DIGEST_BYTES:], is_summary=family.field == "summary")
        return family.to_name(self._attributes[point], part)

    def to_metadata(self, sample: int) -> Metadata:
        return self._origins[bisect_right(self._starts, sample) - 1][0].to_metadata()

    def locator(self, sample: int) -> str:
        family, place = self._origins[bisect_right(self._starts, sample) - 1]
        return family.locator(place)

    def _refuse(self, flaw: Flaw) -> None:
        self._flaws[len(self.keys)] = flaw
        self.keys.append(None)
        self.times.append(0)
        self._values.append(0.0)
        self._attributes.append(b"")

"""Data points of gauges and sums: one sample each, read without parsing their labels.

Every encoder writes the fields of a data point in the order of their numbers: start time
(optional), time, value, attributes. So a point is 27 (or 18) bytes of numbers, which numpy reads
for all points of a request at once, followed by the encoded attributes, which repeat from request
to request and are part of the key of the series. A key is known only after the careful path has
parsed the same bytes as attributes and nothing else, so a point of this form with a known key has
no other fields.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infrawatch.ingest.decoded import Find
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.otlp.families import Family, Part, Scope, find_flaw
from infrawatch.ingest.protocols.otlp.points import is_stale, parse_point
from infrawatch.ingest.protocols.otlp.wire import Message, NumberDataPoint, encode_attributes
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import STALE_NAN_BITS, Float64s
from infrawatch.store.metadata import Metadata

_HEAD = np.dtype(
    [
        ("start_tag", "u1"),
        ("start", "<u8"),
        ("time_tag", "u1"),
        ("time", "<u8"),
        ("value_tag", "u1"),
        ("value", "<i8"),
    ]
)
_START_TAG, _TIME_TAG, _DOUBLE_TAG, _INT_TAG = 0x11, 0x19, 0x21, 0x31
"""Field number << 3 | 1: each is followed by eight bytes."""

_START = bytes([_START_TAG])
_NO_START = bytes([_START_TAG]) + bytes(8)
_LONG = _HEAD.itemsize
_SHORT = _LONG - len(_NO_START)

_NO_VALUE = Flaw("missing_field", "the data point has neither asDouble nor asInt")

Times = NDArray[np.uint64]

_Block = tuple[bytes, Scope, int, Message, str]
"""The beginning of a metric's keys, and the fields of its `Family`, which is created on demand."""


class NumberPoints:
    """The data points of all gauges and sums of a request, in order.

    `keys` has None for points that are refused regardless of their names.
    """

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []
        self.exemplars = 0
        self._points: list[bytes] = []
        self._heads: list[bytes] = []
        self._blocks: list[_Block] = []
        self._starts: list[int] = []
        self._flaws: dict[int, Flaw] = {}

    def add(self, block: _Block, points: Sequence[bytes]) -> None:
        """Add the data points of one metric."""
        keys, heads, begin = self.keys, self._heads, block[0]
        self._blocks.append(block)
        self._starts.append(len(keys))
        self._points += points
        for point in points:
            if point[:1] == _START:
                heads.append(point[:_LONG])
                keys.append(begin + point[_LONG:])
            else:
                heads.append(_NO_START + point[:_SHORT])
                keys.append(begin + point[_SHORT:])

    def read(self, find: Find) -> tuple[Times, Float64s]:
        """Read the time of each point, in nanoseconds, and its value."""
        heads = self._joined_heads()
        is_int = heads["value_tag"] == _INT_TAG
        raw = heads["value"].copy()
        times = heads["time"].copy()
        values = np.where(is_int, raw.astype(np.float64), raw.view(np.float64))
        is_plain = (
            (heads["start_tag"] == _START_TAG)
            & (heads["time_tag"] == _TIME_TAG)
            & (is_int | (heads["value_tag"] == _DOUBLE_TAG))
            & (times > 0)
        )
        known = find(self.keys)
        if None in known or not is_plain.all():
            for number, series_id in enumerate(known):
                if series_id is None or not is_plain[number]:
                    self._read_carefully(number, times, values)
        return times, values

    def to_name(self, number: int) -> SeriesName | Flaw:
        """Name the series of a point whose key is unknown."""
        key = self.keys[number]
        if key is None:
            return self._flaws[number]
        begin, family, _ = self._block(number)
        return family.to_name(key[len(begin) :], Part())

    def to_metadata(self, number: int) -> Metadata:
        return self._block(number)[1].to_metadata()

    def locator(self, number: int) -> str:
        _, family, start = self._block(number)
        return family.locator(number - start)

    def _block(self, number: int) -> tuple[bytes, Family, int]:
        """Return the beginning of a point's key, its metric, and the metric's first point."""
        place = bisect_right(self._starts, number) - 1
        begin, *family = self._blocks[place]
        return begin, Family(*family), self._starts[place]

    def _joined_heads(self) -> NDArray[np.void]:
        joined = b"".join(self._heads)
        if len(joined) < len(self._heads) * _LONG:  # a truncated point is never plain
            joined = b"".join(head.rjust(_LONG, b"\0") for head in self._heads)
        return np.frombuffer(joined, _HEAD)

    def _read_carefully(self, number: int, times: Times, values: Float64s) -> None:
        """Parse one point completely: fields in any order, with flags and exemplars."""
        begin, _, _, metric, field = self._blocks[bisect_right(self._starts, number) - 1]
        point = parse_point(NumberDataPoint, self._points[number])
        flaw = point if isinstance(point, Flaw) else find_flaw(metric, field) or _find_flaw(point)
        if flaw:
            self.keys[number] = None
            self._flaws[number] = flaw
            times[number] = 0
            return
        self.exemplars += len(point.exemplars)
        self.keys[number] = begin + encode_attributes(point.attributes)
        times[number] = point.time_unix_nano
        if is_stale(point):
            values.view(np.int64)[number] = STALE_NAN_BITS
        else:
            values[number] = getattr(point, point.WhichOneof("value"))


def _find_flaw(point: Message) -> Flaw | None:
    return None if point.WhichOneof("value") or is_stale(point) else _NO_VALUE

"""Decoding of a metrics request: bytes → columns, verdicts and warnings."""

from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from infrawatch.errors import MalformedBody
from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.otlp.distribution_points import DistributionPoints
from infrawatch.ingest.protocols.otlp.families import MAX_SAMPLES, Family, Scope, too_large
from infrawatch.ingest.protocols.otlp.number_points import NumberPoints
from infrawatch.ingest.protocols.otlp.target_infos import TargetInfos
from infrawatch.ingest.protocols.otlp.wire import Message, MetricsData, has_more_messages
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.verdicts import Verdict
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Bools
from infrawatch.store.metadata import Metadata

_CHECKED_BYTES = 4 * 1024 * 1024
"""Bodies up to this size take at most 200 MB, whatever they contain; larger ones are checked
first."""

_OFF_LOOP_BYTES = 64 * 1024
"""Reading this much takes a millisecond, or 20 if all series are new."""

_OFF_LOOP_PARTS = 2_000
"""Limit for resources, scopes, metrics and data points: each may be two bytes, and takes 6 µs."""

_NO_POINT = -1
_LATEST_NS = 2**63 - 1


@dataclass(slots=True)
class Metrics(Decoded):
    """A decoded request, with one sample per series.

    `points` maps each sample to its data point, or to -1 for samples of `target_info`.
    """

    points: NDArray[np.intp] = field(kw_only=True)
    point_count: int = field(kw_only=True)
    warnings: list[str] = field(kw_only=True)

    def count_rejected_points(self, kept: Bools | None) -> int:
        """Count the data points with a sample that is not kept; `kept` None keeps them all."""
        if kept is None:
            return 0
        points = self.points[~kept]
        return len(np.unique(points[points != _NO_POINT]))


def decode(body: bytes, find: Find, *, on_loop: bool = False) -> Metrics:
    """Read a serialised `ExportMetricsServiceRequest`.

    Raises:
        MalformedBody: the body is not such a message.
        BatchTooLarge: more than a million metrics, data points or samples.
        BlocksLoop: on the loop only, if it would take too long.
    """
    check_budget(on_loop=on_loop, is_long=len(body) > _OFF_LOOP_BYTES)
    try:
        if len(body) > _CHECKED_BYTES and has_more_messages(body, MAX_SAMPLES):
            raise too_large()
        request = MetricsData.FromString(body)
    except DecodeError:
        raise MalformedBody(
            "the body is not an ExportMetricsServiceRequest in protobuf's binary encoding; is the "
            "Content-Type right?"
        ) from None
    return _Reading(request, on_loop=on_loop).to_metrics(find)


class _Reading:
    """A single pass through a request; afterwards it names and locates the samples."""

    def __init__(self, request: Message, *, on_loop: bool) -> None:
        self._on_loop = on_loop
        self._parts = 0
        self._numbers = NumberPoints()
        self._distributions = DistributionPoints()
        self._infos = TargetInfos()
        self._points = np.empty(0, np.intp)
        self._metadata: dict[str, Metadata] = {}
        for place, resource_metrics in enumerate(request.resource_metrics):
            self._add_resource(f"/resourceMetrics/{place}", resource_metrics)

    def to_metrics(self, find: Find) -> Metrics:
        numbers, distributions, infos = self._numbers, self._distributions, self._infos
        number_times, number_values = numbers.read(find)
        point_times = np.array(distributions.times, np.uint64)
        info_times = infos.read(number_times, point_times)
        counts = distributions.counts()
        times = np.concatenate((number_times, np.repeat(point_times, counts), info_times))
        ones = np.ones(len(info_times))
        point_count = len(numbers.keys) + len(point_times)
        positions = np.arange(len(numbers.keys), point_count)
        self._points = np.concatenate(
            (
                np.arange(len(numbers.keys)),
                np.repeat(positions, counts),
                np.full(len(info_times), _NO_POINT),
            )
        )
        return Metrics(
            keys=[*numbers.keys, *distributions.keys, *infos.keys],
            name_of=self._name_of,
            locate=self._locate,
            counts=np.ones(len(times), np.intp),
            times=np.minimum(times, _LATEST_NS).astype(np.int64),
            values=np.concatenate((number_values, distributions.values(), ones)),
            unit_ns=1,
            metadata=self._metadata,
            exemplars=numbers.exemplars + distributions.exemplars,
            points=self._points,
            point_count=point_count,
            warnings=list(infos.warnings),
        )

    def _count(self, parts: int = 1) -> None:
        self._parts += parts
        check_budget(on_loop=self._on_loop, is_long=self._parts > _OFF_LOOP_PARTS)

    def _add_resource(self, pointer: str, resource_metrics: Message) -> None:
        self._count()
        encoded = resource_metrics.resource
        self._infos.add(
            pointer,
            encoded,
            first_number=len(self._numbers.keys),
            first_distribution=len(self._distributions.times),
        )
        for place, scope_metrics in enumerate(resource_metrics.scope_metrics):
            self._count()
            scope = Scope.of(f"{pointer}/scopeMetrics/{place}", encoded, scope_metrics)
            for number, metric in enumerate(scope_metrics.metrics):
                self._add_metric(scope, number, metric)

    def _add_metric(self, scope: Scope, place: int, metric: Message) -> None:
        which = metric.WhichOneof("data")
        if which is None:
            self._count()
            name = metric.name.decode(errors="replace")[:200]
            self._infos.warnings[f"metric {name!r} is of no kind that is known here"] = None
            return
        data = getattr(metric, which)
        points = data.data_points
        count = len(points)
        self._count(1 + count)
        if count == 0:
            return
        if count + len(self._numbers.keys) > MAX_SAMPLES:
            raise too_large()
        begin = scope.key_of(metric, which, data)
        if which in ("gauge", "sum"):
            self._numbers.add((begin, scope, place, metric, which), list(points))
        else:
            self._distributions.add(begin, Family(scope, place, metric, which), list(points))

    def _name_of(self, sample: int) -> SeriesName | list[Verdict]:
        part, place = self._at(sample)
        name = part.to_name(place)
        if isinstance(name, Flaw):
            index, locator = self._locate(sample, 0)
            return [Verdict(index, locator, name.code, name.detail)]
        if name.metric not in self._metadata:
            self._metadata[name.metric] = part.to_metadata(place)
        return name

    def _locate(self, sample: int, _: int) -> tuple[int, str]:
        part, place = self._at(sample)
        return int(self._points[sample]), part.locator(place)

    def _at(self, sample: int) -> tuple[NumberPoints | DistributionPoints | TargetInfos, int]:
        """Return the part that a sample belongs to, and its position in it."""
        part: NumberPoints | DistributionPoints | TargetInfos
        for part in (self._numbers, self._distributions):
            if sample < len(part.keys):
                return part, sample
            sample -= len(part.keys)
        return self._infos, sample

"""`target_info`: one sample per resource of a request, at the time of its latest data point."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.otlp.families import digest
from infrawatch.ingest.protocols.otlp.number_points import Times
from infrawatch.ingest.protocols.otlp.resources import TARGET_INFO, read_resource
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

_METADATA = Metadata("gauge", help="Attributes of the resource that metrics come from.")


class _Resource(NamedTuple):
    """One `ResourceMetrics`: its JSON pointer, and the positions of its first points."""

    pointer: str
    encoded: bytes
    first_number: int
    first_distribution: int


class TargetInfos:
    """The resources of a request, and their `target_info` samples."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.warnings: dict[str, None] = {}  # used as an ordered set
        self._resources: list[_Resource] = []
        self._names: list[SeriesName] = []
        self._pointers: list[str] = []
        self._times: list[int] = []

    def add(
        self, pointer: str, encoded: bytes, *, first_number: int, first_distribution: int
    ) -> None:
        """Begin a resource: its data points are those up to the beginning of the next one."""
        self._resources.append(_Resource(pointer, encoded, first_number, first_distribution))

    def read(self, numbers: Times, distributions: Times) -> Times:
        """Create the samples, given the times of all points; return their times."""
        end = _Resource("", b"", len(numbers), len(distributions))
        for resource, following in pairwise([*self._resources, end]):
            times = (
                numbers[resource.first_number : following.first_number],
                distributions[resource.first_distribution : following.first_distribution],
            )
            latest = max(int(part.max(initial=0)) for part in times)
            if latest:
                self._add_info(resource, latest)
        return np.array(self._times, np.uint64)

    def to_name(self, place: int) -> SeriesName | Flaw:
        return self._names[place]

    def to_metadata(self, _place: int) -> Metadata:
        return _METADATA

    def locator(self, place: int) -> str:
        return f"{TARGET_INFO} of {self._pointers[place]}"

    def _add_info(self, resource: _Resource, time_ns: int) -> None:
        origin = read_resource(resource.encoded)
        if isinstance(origin, Flaw):  # reported for each of its series
            return
        if origin.warning:
            self.warnings[origin.warning] = None
        if origin.target_info:
            self.keys.append(digest(TARGET_INFO.encode(), resource.encoded))
            self._names.append(origin.target_info)
            self._pointers.append(f"{resource.pointer}/resource")
            self._times.append(time_ns)

"""The data that collectors report: families of metrics, and readings of their values."""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

FamilyType = Literal["gauge", "counter", "unknown"]

_UNITS = ("bytes", "seconds", "celsius", "hertz", "bits", "ratio")


class Family(NamedTuple):
    """A metric; `labels` are the names of the labels its readings have, in their order."""

    metric: str
    type: FamilyType
    help: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str | None:
        """The base unit that the metric's name ends with (OpenMetrics, "Units and Base Units")."""
        ending = self.metric.removesuffix("_total").rpartition("_")[2]
        return ending if ending in _UNITS else None


class Reading(NamedTuple):
    """The current value of one series of a family; an empty label value means no label."""

    family: Family
    value: float
    labels: tuple[str, ...] = ()


Collector = Callable[[], Iterable[Reading]]
"""Reads one part of the host. Figures that the host does not have are left out.

It may raise any exception if the host gives an unexpected answer, and then counts as failed.
"""


def gauge(metric: str, description: str, *labels: str) -> Family:
    return Family(metric, "gauge", description, labels)


def counter(metric: str, description: str, *labels: str) -> Family:
    return Family(metric, "counter", description, labels)

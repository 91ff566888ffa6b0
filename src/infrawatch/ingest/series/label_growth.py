"""Which label makes a tenant's series so many."""

from collections import defaultdict
from collections.abc import Mapping

from infrawatch.model.labels import SeriesName
from infrawatch.model.selector import METRIC_LABEL

_MAX_VALUES = 2_000
"""Distinct values per generation, about 0.2 MB."""

_Values = Mapping[str, set[int]]
"""Hashes of values, because values may be long, by label."""


class LabelGrowth:
    """Distinct values of each label, including `__name__`, among a tenant's last new series.

    There are two generations: when the young one is full, it replaces the old one.
    """

    def __init__(self) -> None:
        self._young: defaultdict[str, set[int]] = defaultdict(set)
        self._old: _Values = {}
        self._young_values = 0

    def add(self, name: SeriesName) -> None:
        """Add a new series."""
        for label, value in ((METRIC_LABEL, name.metric), *name.labels):
            values = self._young[label]
            before = len(values)
            values.add(hash(value))
            self._young_values += len(values) - before
        if self._young_values >= _MAX_VALUES:
            self._old, self._young, self._young_values = self._young, defaultdict(set), 0

    def find_largest(self) -> tuple[str, int]:
        """Return the label with the most values, and their number, after at least one series."""
        numbers = {
            label: len(self._young.get(label, set()) | self._old.get(label, set()))
            for label in (*self._young, *self._old)
        }
        label = max(numbers, key=numbers.__getitem__)
        return label, numbers[label]

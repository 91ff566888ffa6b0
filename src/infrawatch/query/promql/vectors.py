"""Instant vectors at many moments at once: a row for each series, a column for each moment."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from infrawatch.errors import CannotEvaluate
from infrawatch.model.samples import Bools, Float64s, Positions
from infrawatch.model.selector import METRIC_LABEL

Labels = Mapping[str, str]
"""The labels of a row, including `__name__`; none has an empty value."""

Key = tuple[tuple[str, str], ...]
"""Labels in a form that can be compared and hashed."""

_LABEL = re.compile(r"[a-zA-Z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Vector:
    """`values` and `present` have a row for each of `labels`; a value counts where present."""

    labels: Sequence[Labels]
    values: Float64s
    present: Bools

    @classmethod
    def blank(cls, moments: int) -> Self:
        return cls([], np.empty((0, moments)), np.zeros((0, moments), np.bool_))

    def picked(self, rows: Positions) -> "Vector":
        """These rows, in this order."""
        labels = [self.labels[row] for row in rows.tolist()]
        return Vector(labels, self.values[rows], self.present[rows])

    def with_values(self, values: Float64s) -> "Vector":
        return Vector(self.labels, values, self.present)

    def where(self, kept: Bools) -> "Vector":
        """The values that are present and kept."""
        return Vector(self.labels, self.values, self.present & kept)

    def relabelled(self, change: Callable[[Labels], Labels]) -> "Vector":
        """Change the labels of every row.

        Raises:
            CannotEvaluate: two rows present at the same moment get the same labels.
        """
        return Vector(
            [change(labels) for labels in self.labels], self.values, self.present
        ).unique()

    def without_name(self) -> "Vector":
        """Drop the metric's name: computed values are no longer those of the metric.

        Raises:
            CannotEvaluate: two rows present at the same moment get the same labels.
        """
        return self.relabelled(lambda labels: without(labels, {METRIC_LABEL}))

    def unique(self) -> "Vector":
        """Merge rows with the same labels into one, which has a value where any of them has.

        Raises:
            CannotEvaluate: two of them are present at the same moment.
        """
        groups = Groups.of([key_of(labels) for labels in self.labels])
        if len(groups.firsts) == len(self.labels):
            return self
        if (groups.count(self.present) > 1).any():
            raise CannotEvaluate(
                "two series of the result have the same labels: keep a label that tells them apart"
            )
        values = groups.reduce(np.add, np.where(self.present, self.values, -0.0))
        labels = [self.labels[row] for row in groups.firsts.tolist()]
        return Vector(labels, values, groups.count(self.present) > 0)


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows grouped by key: `codes[row]` is the number of the row's group.

    Groups are numbered in the order in which they occur; `firsts` are their first rows.
    """

    codes: Positions
    firsts: Positions

    @classmethod
    def of(cls, keys: Sequence[Key]) -> Self:
        numbers: dict[Key, int] = {}
        codes = [numbers.setdefault(key, len(numbers)) for key in keys]
        coded = np.array(codes, np.intp)
        _, firsts = np.unique(coded, return_index=True)
        return cls(coded, firsts)

    def reduce(self, function: np.ufunc, values: Float64s) -> Float64s:
        """Combine the rows of each group, in their order: a row for each group."""
        order = np.argsort(self.codes, kind="stable")
        starts = np.flatnonzero(np.diff(self.codes[order], prepend=-1))
        if len(starts) == 0:
            return values[:0]
        reduced: Float64s = function.reduceat(values[order], starts, axis=0)
        return reduced

    def count(self, present: Bools) -> Float64s:
        """How many rows of each group are present at each moment."""
        return self.reduce(np.add, present.astype(np.float64))

    def members(self) -> list[Positions]:
        """The rows of each group."""
        order = np.argsort(self.codes, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.codes[order])) + 1) if len(order) else []


def check_label(name: str) -> None:
    """Check that a query may give a label this name.

    Raises:
        CannotEvaluate: it may not.
    """
    if not _LABEL.fullmatch(name):
        raise CannotEvaluate(
            f"no label can be called {name[:100]!r} in label_replace, label_join or count_values"
        )


def key_of(labels: Labels) -> Key:
    return tuple(sorted(labels.items()))


def within(labels: Labels, names: frozenset[str]) -> dict[str, str]:
    """Only the labels with these names."""
    return {name: value for name, value in labels.items() if name in names}


def without(labels: Labels, names: frozenset[str] | set[str]) -> dict[str, str]:
    """All labels but those with these names."""
    return {name: value for name, value in labels.items() if name not in names}

"""Aggregation operators: `sum by (…)` and its relatives.

Source: Prometheus, "Operators", aggregation operators.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import promql_parser as promql

from infrawatch.errors import CannotEvaluate, QueryTooBroad
from infrawatch.model.samples import Float64s
from infrawatch.model.selector import METRIC_LABEL
from infrawatch.query.promql.over_time import between_ranks
from infrawatch.query.promql.responses import to_texts
from infrawatch.query.promql.vectors import (
    Groups,
    Labels,
    Vector,
    check_label,
    key_of,
    within,
    without,
)

_TOO_MANY = 2.0**63
"""Prometheus counts series in 64 bits, and refuses what does not fit."""

_MAX_COUNTED = 1_000
"""The most values `count_values` counts, over all groups; each becomes a series."""


def aggregate(operator: str, vector: Vector, modifier: promql.AggModifier | None) -> Vector:
    """Evaluate an operator that takes only a vector."""
    labels, groups = _grouped(vector, modifier)
    counts = groups.count(vector.present)
    return Vector(labels, _REDUCTIONS[operator](vector, groups, counts), counts > 0)


def quantile(quantiles: Float64s, vector: Vector, modifier: promql.AggModifier | None) -> Vector:
    """Interpolate linearly between the closest ranks; NaN ranks lowest."""
    labels, groups = _grouped(vector, modifier)
    present = groups.count(vector.present) > 0
    values = np.full(present.shape, np.nan)
    is_nan = vector.present & np.isnan(vector.values)
    heights = np.where(vector.present, np.where(is_nan, -np.inf, vector.values), np.inf)
    for number, rows in enumerate(groups.members()):
        ordered = np.sort(heights[rows], axis=0)
        ordered[np.arange(len(rows))[:, np.newaxis] < is_nan[rows].sum(axis=0)] = np.nan
        some = np.flatnonzero(present[number])
        values[number, some] = between_ranks(
            ordered.T[some].ravel(),
            np.arange(len(some)) * len(rows),
            vector.present[rows].sum(axis=0)[some],
            quantiles[some],
        )
    return Vector(labels, values, present)


def extremes(
    k: Float64s, vector: Vector, modifier: promql.AggModifier | None, *, are_largest: bool
) -> Vector:
    """`topk` and `bottomk`: the series themselves, where they rank among the first of their group.

    Those of a group come by their rank at the first moment; NaN comes last.

    Raises:
        CannotEvaluate: `k` is no number of series.
    """
    if not (np.abs(k) < _TOO_MANY).all():
        raise CannotEvaluate("topk and bottomk take how many series they keep, not NaN or Inf")
    _, groups = _grouped(vector, modifier)
    kept = np.zeros(vector.present.shape, np.bool_)
    ranked = [np.empty(0, np.intp)]
    heights = -vector.values if are_largest else vector.values
    for rows in groups.members():
        keys = np.where(np.isnan(heights[rows]), np.inf, heights[rows])
        absent = ~vector.present[rows]
        order = np.lexsort((keys, np.isnan(heights[rows]), absent), axis=0)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(len(rows))[:, np.newaxis], axis=0)
        kept[rows] = ranks < np.floor(k)
        ranked.append(rows[order[:, 0]])
    return vector.where(kept).picked(np.concatenate(ranked))


def count_values(label: str, vector: Vector, modifier: promql.AggModifier | None) -> Vector:
    """How many series of a group have each value; the value is a label of the result.

    Raises:
        CannotEvaluate: no label can have this name.
        QueryTooBroad: there are too many values.
    """
    check_label(label)
    names, groups = _grouped(vector, modifier)
    labels: list[Labels] = []
    counts: list[Float64s] = []
    for name, rows in zip(names, groups.members(), strict=True):
        values, present = vector.values[rows], vector.present[rows]
        different = np.unique(values[present])
        if len(labels) + len(different) > _MAX_COUNTED:
            raise QueryTooBroad(
                f"more than {_MAX_COUNTED} values are too many to count: round them"
            )
        for value, text in zip(different, to_texts(different, has_exponents=False), strict=True):
            same = np.isnan(values) if np.isnan(value) else values == value
            labels.append({**name, label: text})
            counts.append((same & present).sum(axis=0).astype(np.float64))
    if not counts:
        return Vector.blank(vector.values.shape[1])
    return Vector(labels, np.array(counts), np.array(counts) > 0).unique()


def _grouped(vector: Vector, modifier: promql.AggModifier | None) -> tuple[list[Labels], Groups]:
    """The labels of each group, and the groups of rows."""
    names = frozenset(() if modifier is None else modifier.labels)
    if modifier is None or modifier.type == promql.AggModifierType.By:
        called = [within(labels, names) for labels in vector.labels]
    else:
        called = [without(labels, names | {METRIC_LABEL}) for labels in vector.labels]
    groups = Groups.of([key_of(labels) for labels in called])
    return [called[row] for row in groups.firsts.tolist()], groups


def _filled(vector: Vector, neutral: float) -> Float64s:
    return np.where(vector.present, vector.values, neutral)


def _sum(vector: Vector, groups: Groups, _counts: Float64s) -> Float64s:
    return groups.reduce(np.add, _filled(vector, -0.0))


def _average(vector: Vector, groups: Groups, counts: Float64s) -> Float64s:
    return _sum(vector, groups, counts) / counts


def _least(vector: Vector, groups: Groups, _counts: Float64s) -> Float64s:
    return groups.reduce(np.fmin, _filled(vector, np.nan))


def _greatest(vector: Vector, groups: Groups, _counts: Float64s) -> Float64s:
    return groups.reduce(np.fmax, _filled(vector, np.nan))


def _count(_vector: Vector, _groups: Groups, counts: Float64s) -> Float64s:
    return counts


def _one(_vector: Vector, _groups: Groups, counts: Float64s) -> Float64s:
    return np.ones_like(counts)


def _variance(vector: Vector, groups: Groups, counts: Float64s) -> Float64s:
    """Population variance, in two passes."""
    means = _average(vector, groups, counts)
    distances = np.where(vector.present, vector.values - means[groups.codes], 0.0)
    return groups.reduce(np.add, np.square(distances)) / counts


def _deviation(vector: Vector, groups: Groups, counts: Float64s) -> Float64s:
    return np.sqrt(_variance(vector, groups, counts))


_REDUCTIONS: Mapping[str, Callable[[Vector, Groups, Float64s], Float64s]] = MappingProxyType(
    {
        "avg": _average,
        "count": _count,
        "group": _one,
        "max": _greatest,
        "min": _least,
        "stddev": _deviation,
        "stdvar": _variance,
        "sum": _sum,
    }
)
REDUCTIONS = frozenset(_REDUCTIONS)

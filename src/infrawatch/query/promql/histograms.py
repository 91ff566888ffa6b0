"""`histogram_quantile` over classic buckets.

Source: Prometheus, promql/quantile.go, bucketQuantile.
"""

import numpy as np

from infrawatch.model.samples import Bools, Float64s
from infrawatch.model.selector import METRIC_LABEL
from infrawatch.query.promql.vectors import Groups, Labels, Vector, key_of, without

_BUCKET = "le"


def histogram_quantile(quantiles: Float64s, vector: Vector) -> Vector:
    """Interpolate linearly within the quantile's bucket; `quantiles` has one for each moment.

    Series whose `le` label is not a number are not buckets, and are left out.
    """
    bounds = np.array([_bound(labels) for labels in vector.labels])
    vector = vector.picked(np.flatnonzero(~np.isnan(bounds)))
    bounds = bounds[~np.isnan(bounds)]
    called = [without(labels, {METRIC_LABEL, _BUCKET}) for labels in vector.labels]
    groups = Groups.of([key_of(labels) for labels in called])
    present = groups.count(vector.present) > 0
    values = np.full(present.shape, np.nan)
    for number, members in enumerate(groups.members()):
        rows = members[np.argsort(bounds[members], kind="stable")]
        values[number] = _of_buckets(
            quantiles, bounds[rows], vector.values[rows], vector.present[rows]
        )
    return Vector([called[row] for row in groups.firsts.tolist()], values, present)


def _bound(labels: Labels) -> float:
    try:
        return float(labels.get(_BUCKET, ""))
    except ValueError:
        return np.nan


def _of_buckets(
    quantiles: Float64s, bounds: Float64s, values: Float64s, present: Bools
) -> Float64s:
    """One answer per moment, from the buckets present at that moment."""
    answers = np.full(len(quantiles), np.nan)
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        moments = np.flatnonzero(which.ravel() == number)
        edges, starts = np.unique(bounds[pattern], return_index=True)
        if len(edges) < 2 or not np.isposinf(edges[-1]):  # noqa: PLR2004  # the last, and another
            continue
        counts = np.add.reduceat(values[np.ix_(pattern, moments)], starts, axis=0)
        answers[moments] = _interpolated(quantiles[moments], edges, np.maximum.accumulate(counts))
    return answers


def _interpolated(quantiles: Float64s, edges: Float64s, counts: Float64s) -> Float64s:
    total = counts[-1]
    ranks = quantiles * total
    places = (counts < ranks).sum(axis=0).clip(0, len(edges) - 1)
    moments = np.arange(len(quantiles))
    uppers = edges[places]
    is_first = places == 0
    befores = np.where(is_first, 0.0, counts[np.maximum(places - 1, 0), moments])
    lowers = np.where(is_first, 0.0, edges[np.maximum(places - 1, 0)])
    shares = (ranks - befores) / (counts[places, moments] - befores)
    answers = lowers + (uppers - lowers) * shares
    answers = np.where(is_first & (uppers <= 0), uppers, answers)
    answers = np.where(places == len(edges) - 1, edges[-2], answers)
    answers = np.where(total == 0, np.nan, answers)
    answers = np.where(quantiles < 0, -np.inf, np.where(quantiles > 1, np.inf, answers))
    return np.where(np.isnan(quantiles), np.nan, answers)

"""Names the rows of an answer: after their series, or after the labels a group has in common."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from infrawatch.model.selector import METRIC_LABEL
from infrawatch.query.across import Across, combine
from infrawatch.query.steps import Steps, Table
from infrawatch.store.selection.catalog import Series

_Key = tuple[str, ...]
"""A series' value of each label in `by`."""


class Group(NamedTuple):
    """The name of a row of an answer; `id` is None if the row stands for a group of series."""

    id: int | None
    metric: str | None
    labels: Mapping[str, str]


class Ranges(NamedTuple):
    """One row of the table for each group, one column for each step."""

    groups: Sequence[Group]
    steps: Steps
    table: Table


def to_ranges(
    every: Sequence[Series],
    table: Table,
    steps: Steps,
    *,
    by: tuple[str, ...],
    across: Across | None,
) -> Ranges:
    """The rows of a table of series that have an answer; combined if `across` is given."""
    seen = np.flatnonzero(~table.empty.all(axis=1))
    rows = [every[place] for place in seen.tolist()]
    table = Table(table.values[seen], table.empty[seen])
    if across is None:
        return Ranges([Group(*one) for one in rows], steps, table)
    keys = [_key(one, by) for one in rows]
    groups = _grouped(rows, keys, by)
    places = {key: place for place, key in enumerate(groups)}
    into = np.fromiter(map(places.__getitem__, keys), np.intp, len(rows))
    combined = combine(table, across, into=into, rows=len(groups))
    return Ranges(list(groups.values()), steps, combined)


def _grouped(
    rows: Sequence[Series], keys: Sequence[_Key], by: tuple[str, ...]
) -> dict[_Key, Group]:
    """Groups in the order of their keys; a group of a single metric has its name."""
    metrics: dict[_Key, set[str]] = {}
    for key, one in zip(keys, rows, strict=True):
        metrics.setdefault(key, set()).add(one.metric)
    return {
        key: Group(
            None,
            next(iter(names)) if len(names) == 1 else None,
            {label: value for label, value in zip(by, key, strict=True) if value},
        )
        for key, names in sorted(metrics.items())
    }


def _key(series: Series, by: tuple[str, ...]) -> _Key:
    return tuple(
        series.metric if label == METRIC_LABEL else series.labels.get(label, "") for label in by
    )

"""What the rows of an answer are called: a series each, or what a group of them has in common."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from infrawatch.model.selector import METRIC_LABEL
from infrawatch.query.across import Across, combine
from infrawatch.query.steps import Steps, Table
from infrawatch.store.known import Series

_Key = tuple[str, ...]
"""What a series says for each label of `by`."""


class Group(NamedTuple):
    """What a row of an answer is called; `id` is None where it stands for several series."""

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
    """Rows that have an answer, of a table with one for each series; combined where asked for."""
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
    """Groups in the order of their keys; one that holds a single metric is called by it."""
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

"""Range queries, answered from samples or from rollups."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from infrawatch.model.selector import Selector
from infrawatch.query.across import Across
from infrawatch.query.aggregate import aggregate, series_in
from infrawatch.query.functions import Function
from infrawatch.query.grouping import Ranges, to_ranges
from infrawatch.query.rollups import aggregate_buckets
from infrawatch.query.steps import Steps, Table
from infrawatch.store.packed_samples import PackedSamples
from infrawatch.store.rollups.buckets import Buckets
from infrawatch.store.selection.catalog import Series


@dataclass(frozen=True, slots=True)
class RangeQuery:
    selector: Selector
    steps: Steps
    function: Function
    by: tuple[str, ...] = ()
    across: Across | None = None


def from_stored(
    series: Mapping[int, Series],
    stored: PackedSamples,
    deltas: AbstractSet[str],
    query: RangeQuery,
) -> Ranges:
    """Answer from samples; `deltas` are the metrics of delta temporality.

    Raises:
        QueryTooBroad: there are more samples than may be read.
    """
    steps = query.steps
    rows: list[Series] = []
    tables: list[Table] = []
    for columns in stored.blocks():
        some = [series[series_id] for series_id in series_in(columns).tolist()]
        is_delta = np.fromiter((one.metric in deltas for one in some), np.bool_, len(some))
        tables.append(aggregate(columns, steps, query.function, is_delta=is_delta))
        rows += some
    return to_ranges(rows, Table.joined(tables), steps, by=query.by, across=query.across)


def from_buckets(series: Mapping[int, Series], buckets: Buckets, query: RangeQuery) -> Ranges:
    """Answer from rollups."""
    rows = [series[series_id] for series_id in np.unique(buckets.series_ids).tolist()]
    table = aggregate_buckets(buckets, query.steps, query.function)
    return to_ranges(rows, table, query.steps, by=query.by, across=query.across)

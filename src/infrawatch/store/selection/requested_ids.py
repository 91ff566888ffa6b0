"""The series a statement has to find, as one parameter whatever their number."""

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s
from infrawatch.store.columns.copy import to_array_text

BLOCK_BITS = 15
"""Low bits of an id that a block spans, six of them the shard: up to 512 series of one shard."""

REQUESTED_SERIES = f"""
FROM (
    SELECT CAST(id & {SHARDS - 1} AS smallint) AS shard, id AS series_id
    FROM unnest(CAST(CAST(:ids AS text) AS bigint[])) AS id
) AS requested
"""

CANDIDATE_ROWS = f"""
FROM (
    SELECT CAST(id & {SHARDS - 1} AS smallint) AS shard, id >> {BLOCK_BITS} AS block,
        min(id) AS first, max(id) AS last, array_agg(id) AS ids
    FROM unnest(CAST(CAST(:ids AS text) AS bigint[])) AS id
    GROUP BY 1, 2
) AS requested
JOIN {{table}} k ON k.shard = requested.shard AND k.block = requested.block
    AND k.first_id <= requested.last AND k.last_id >= requested.first
"""
"""Rows of several series of a block, from `first_id` to `last_id`, that may hold requested ones."""

MAY_HOLD = (
    "EXISTS (SELECT FROM unnest(requested.ids) AS id WHERE id BETWEEN k.first_id AND k.last_id)"
)
"""A stricter test of such a row: a requested id lies between its first and last id."""

REQUESTED_ROWS = f"{CANDIDATE_ROWS} AND {MAY_HOLD}"


def to_parameters(ids: Int64s) -> dict[str, object]:
    """Return the parameters of `REQUESTED_SERIES` and `REQUESTED_ROWS`."""
    return {"ids": to_array_text(ids)}


def block_of(series_ids: Int64s) -> Int64s:
    """Return the block of each series: neighbours in a shard, which share rows in some tables."""
    return series_ids >> BLOCK_BITS

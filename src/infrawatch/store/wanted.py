"""The series that a statement is to find: one parameter, however many they are."""

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s
from infrawatch.store.copy import to_array_text

BLOCK_BITS = 15
"""Of an id, six for the shard among them: a block has up to 512 series of one shard."""

ARRAY_OF_WANTED = f"""
FROM (
    SELECT CAST(id & {SHARDS - 1} AS smallint) AS shard, id AS series_id
    FROM unnest(CAST(CAST(:ids AS text) AS bigint[])) AS id
) AS wanted
"""

NEAR_WANTED = f"""
FROM (
    SELECT CAST(id & {SHARDS - 1} AS smallint) AS shard, id >> {BLOCK_BITS} AS block,
        min(id) AS first, max(id) AS last, array_agg(id) AS ids
    FROM unnest(CAST(CAST(:ids AS text) AS bigint[])) AS id
    GROUP BY 1, 2
) AS wanted
JOIN {{table}} k ON k.shard = wanted.shard AND k.block = wanted.block
    AND k.first_id <= wanted.last AND k.last_id >= wanted.first
"""
"""Rows that hold several series, `first_id` to `last_id` of a block, and may hold wanted ones."""

MAY_HOLD = "EXISTS (SELECT FROM unnest(wanted.ids) AS id WHERE id BETWEEN k.first_id AND k.last_id)"
"""Of such a row: one of them lies between its first and its last, not only beside others."""

BLOCKS_OF_WANTED = f"{NEAR_WANTED} AND {MAY_HOLD}"


def to_wanted(ids: Int64s) -> dict[str, object]:
    """What `ARRAY_OF_WANTED` and `BLOCKS_OF_WANTED` ask for."""
    return {"ids": to_array_text(ids)}


def block_of(series_ids: Int64s) -> Int64s:
    """The block of each series: neighbours of a shard, which share rows in some tables."""
    return series_ids >> BLOCK_BITS

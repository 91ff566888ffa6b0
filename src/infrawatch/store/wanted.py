"""The series that a statement is to find: one parameter, however many they are."""

from infrawatch.model.labels import SHARDS
from infrawatch.model.samples import Int64s
from infrawatch.store.copy import to_array_text

ARRAY_OF_WANTED = f"""
FROM (
    SELECT CAST(id & {SHARDS - 1} AS smallint) AS shard, id AS series_id
    FROM unnest(CAST(CAST(:ids AS text) AS bigint[])) AS id
) AS wanted
"""


def to_wanted(ids: Int64s) -> dict[str, object]:
    """What `ARRAY_OF_WANTED` asks for."""
    return {"ids": to_array_text(ids)}

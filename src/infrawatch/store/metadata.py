"""Metadata of metrics: type, unit, help, temporality."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.statements import Statement

_PART = 1_000
"""Metrics per statement: building its parameters takes two milliseconds."""

# In one order, so that two batches with the same metrics cannot deadlock. The count is evaluated
# only for tenants with a limit; it reads the index of the primary key.
_PUT = text("""
INSERT INTO metric_metadata (tenant_id, metric, type, unit, help, temporality)
SELECT :tenant, metric, type, unit, help, temporality FROM (
    SELECT new.*, stored.metric IS NULL AS is_new,
        count(*) FILTER (WHERE stored.metric IS NULL) OVER (ORDER BY new.metric) AS place
    FROM unnest(CAST(:metrics AS text[]), CAST(:types AS text[]), CAST(:units AS text[]),
        CAST(:helps AS text[]), CAST(:temporalities AS text[]))
        AS new (metric, type, unit, help, temporality)
    LEFT JOIN metric_metadata AS stored
        ON stored.tenant_id = :tenant AND stored.metric = new.metric
) AS given
WHERE CAST(:max_metrics AS bigint) IS NULL OR NOT is_new
    OR place <= :max_metrics - (SELECT count(*) FROM metric_metadata WHERE tenant_id = :tenant)
ORDER BY metric COLLATE "C"
ON CONFLICT (tenant_id, metric) DO UPDATE
SET type = excluded.type, unit = excluded.unit, help = excluded.help,
    temporality = excluded.temporality
""")

_LIST = Statement.of("""
SELECT metric, type, unit, help, temporality FROM metric_metadata
WHERE tenant_id = :tenant
    AND (CAST(:metrics AS text[]) IS NULL OR metric = ANY(CAST(:metrics AS text[])))
ORDER BY metric LIMIT :limit
""")


class Metadata(NamedTuple):
    """`type`: gauge, counter, histogram, summary, unknown; `temporality`: cumulative, delta."""

    type: str = "unknown"
    unit: str = ""
    help: str = ""
    temporality: str = "cumulative"


class MetadataRepository:
    """The metadata of one tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: int) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def put(self, metadata: Mapping[str, Metadata], *, max_metrics: int | None = None) -> int:
        """Store the metadata of each metric, replacing earlier metadata; return of how many.

        If `max_metrics` have metadata already, that of others is left out. Concurrent transactions
        do not see each other's, so together they may exceed that by what each stores.
        """
        metrics, stored = sorted(metadata), 0
        for start in range(0, len(metrics), _PART):
            part = metrics[start : start + _PART]
            stored += await self._put({metric: metadata[metric] for metric in part}, max_metrics)
        return stored

    async def _put(self, metadata: Mapping[str, Metadata], max_metrics: int | None) -> int:
        types, units, helps, temporalities = zip(*metadata.values(), strict=True)
        put = await self._connection.execute(
            _PUT,
            {
                "tenant": self._tenant_id,
                "metrics": list(metadata),
                "types": list(types),
                "units": list(units),
                "helps": list(helps),
                "temporalities": list(temporalities),
                "max_metrics": max_metrics,
            },
        )
        return put.rowcount

    async def list(
        self, metrics: list[str] | None = None, *, limit: int | None = None
    ) -> dict[str, Metadata]:
        """Return metadata by metric, sorted, of these metrics or of all; omit those without any."""
        parameters = {"tenant": self._tenant_id, "metrics": metrics, "limit": limit}
        rows = await _LIST.fetch(self._connection, parameters)
        return {metric: Metadata(*rest) for metric, *rest in rows}

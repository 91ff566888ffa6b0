"""Metadata of metrics: type, unit, help, temporality."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.statements import Statement

_PART = 1_000
"""Metrics per statement: building its parameters takes two milliseconds."""

# Sorted by metric, so that two batches with the same metrics cannot deadlock.
_PUT = text("""
INSERT INTO metric_metadata (tenant_id, metric, type, unit, help, temporality)
SELECT :tenant, new.* FROM unnest(CAST(:metrics AS text[]), CAST(:types AS text[]),
    CAST(:units AS text[]), CAST(:helps AS text[]), CAST(:temporalities AS text[])) AS new
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

    async def put(self, metadata: Mapping[str, Metadata]) -> None:
        """Store the metadata of each metric, replacing earlier metadata."""
        metrics = sorted(metadata)
        for start in range(0, len(metrics), _PART):
            part = metrics[start : start + _PART]
            await self._put({metric: metadata[metric] for metric in part})

    async def _put(self, metadata: Mapping[str, Metadata]) -> None:
        types, units, helps, temporalities = zip(*metadata.values(), strict=True)
        await self._connection.execute(
            _PUT,
            {
                "tenant": self._tenant_id,
                "metrics": list(metadata),
                "types": list(types),
                "units": list(units),
                "helps": list(helps),
                "temporalities": list(temporalities),
            },
        )

    async def list(
        self, metrics: list[str] | None = None, *, limit: int | None = None
    ) -> dict[str, Metadata]:
        """Return metadata by metric, sorted, of these metrics or of all; omit those without any."""
        wanted = {"tenant": self._tenant_id, "metrics": metrics, "limit": limit}
        rows = await _LIST.fetch(self._connection, wanted)
        return {metric: Metadata(*rest) for metric, *rest in rows}

"""Storing of metrics' metadata, as far as it has changed."""

from collections.abc import Mapping

from infrawatch.access.limits.limiter import Limiter
from infrawatch.access.principal import Principal
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository
from infrawatch.telemetry import Telemetry

_REMEMBERED = 100_000
"""Maximum number of metrics whose stored metadata is remembered; beyond it, all are forgotten."""


class MetadataWriter:
    """Stores metadata; senders repeat theirs, so what is stored already is remembered."""

    def __init__(self, database: Database, limiter: Limiter, telemetry: Telemetry) -> None:
        self._database = database
        self._limiter = limiter
        self._telemetry = telemetry
        self._known: dict[tuple[int, str], int] = {}  # hashes, because texts may be long

    async def write(self, principal: Principal, metadata: Mapping[str, Metadata]) -> None:
        """Store what has changed; at most as many metrics have metadata as series may be active."""
        known, tenant_id = self._known, principal.tenant_id
        changed = {
            metric: one
            for metric, one in metadata.items()
            if known.get((tenant_id, metric)) != hash(one)
        }
        if not changed:
            return
        max_series = self._limiter.max_series(principal)
        async with self._database.writing() as connection:
            stored = await MetadataRepository(connection, tenant_id).put(
                changed, max_metrics=max_series
            )
        if stored < len(changed):  # asked for again when it is sent again: the limit may be raised
            self._telemetry.metadata_refused.inc(len(changed) - stored)
            return
        if len(known) > _REMEMBERED:
            known.clear()
        known |= {(tenant_id, metric): hash(one) for metric, one in changed.items()}

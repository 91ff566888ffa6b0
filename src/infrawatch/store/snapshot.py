"""One snapshot, and the repositories that read it on behalf of one tenant."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.buckets import BucketRepository
from infrawatch.store.metadata import MetadataRepository
from infrawatch.store.samples import SampleRepository
from infrawatch.store.selection.catalog import SeriesCatalog
from infrawatch.store.series import SeriesRepository
from infrawatch.store.writers import WriterRepository


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Repositories on one read-only transaction, which all see the same state."""

    series: SeriesRepository
    samples: SampleRepository
    buckets: BucketRepository
    metadata: MetadataRepository
    writers: WriterRepository

    @classmethod
    def on(
        cls,
        connection: AsyncConnection,
        tenant_id: int,
        max_samples: int,
        catalog: SeriesCatalog | None = None,
    ) -> Self:
        """Read on this connection; series in the catalog are not queried."""
        return cls(
            SeriesRepository(connection, tenant_id, catalog),
            SampleRepository(connection, max_samples=max_samples),
            BucketRepository(connection, max_samples=max_samples),
            MetadataRepository(connection, tenant_id),
            WriterRepository(connection),
        )

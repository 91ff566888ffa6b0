"""The pipeline of every batch, whatever its format: series → bounds and limits → commit."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from infrawatch.access.limits.limiter import Limiter
from infrawatch.access.principal import Principal
from infrawatch.errors import DeadlineExceeded, Overloaded
from infrawatch.ingest.bounds import TimeBounds, to_us
from infrawatch.ingest.decoded import Decoded, Find
from infrawatch.ingest.metadata import MetadataWriter
from infrawatch.ingest.scheduling.offload import Offload
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.ingest.series.layouts import Layouts
from infrawatch.ingest.series.quota import SeriesQuota
from infrawatch.ingest.series.registry import SeriesRegistry
from infrawatch.ingest.series.resolver import Resolver
from infrawatch.ingest.verdicts import Verdicts
from infrawatch.ingest.writer import Commit, GroupWriter
from infrawatch.model.samples import Bools, Columns, Int64s, latest_arrivals
from infrawatch.store.database import Database
from infrawatch.telemetry import Telemetry

_OFF_LOOP_SAMPLES = 50_000
"""Remembering a body with this many samples takes five milliseconds; larger ones in a thread."""

_FORMATS = 64
"""More than there are; looking up the counter of one takes longer than counting."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of a write: store the valid part of an invalid batch; validate without storing."""

    partial: bool = True
    dry_run: bool = False


class Rules(NamedTuple):
    """The rules that apply to every batch."""

    bounds: TimeBounds
    limiter: Limiter
    deadline: timedelta


class Outcome(NamedTuple):
    """The result of a batch; `commit` is None if nothing was stored.

    `kept` marks the accepted samples; None means all of them.
    """

    accepted: int
    verdicts: Verdicts
    commit: Commit | None
    kept: Bools | None = None


class Intake:
    """Stores decoded batches; shared by all formats, so that the same rules apply to each."""

    def __init__(
        self,
        database: Database,
        writer: GroupWriter,
        cache: SeriesCache,
        telemetry: Telemetry,
        *,
        rules: Rules,
    ) -> None:
        self._writer = writer
        self._cache = cache
        self._telemetry = telemetry
        self._accepted = lru_cache(_FORMATS)(telemetry.accepted.labels)
        self._bounds = rules.bounds
        self._limiter = rules.limiter
        self._deadline_s = rules.deadline.total_seconds()
        self._metadata = MetadataWriter(database, rules.limiter, telemetry)
        quota = SeriesQuota(database, rules.limiter.active_series)
        self.offload = Offload(quota.is_flooded)
        resolver = Resolver(database, cache, telemetry)
        self._series = SeriesRegistry(cache, quota, resolver, rules.limiter, self.offload)

    def finder(self, principal: Principal, format_name: str) -> Find:
        """Return the function with which decoders look up the known keys of a tenant's series."""
        return partial(self._cache.find, KeySpace(principal.tenant_id, format_name))

    def layouts(self, principal: Principal, format_name: str) -> Layouts:
        """Return the layouts of earlier bodies, for decoders that recognize them."""
        return Layouts(self._cache.layouts, KeySpace(principal.tenant_id, format_name))

    async def take(
        self, decoded: Decoded, principal: Principal, format_name: str, options: WriteOptions
    ) -> Outcome:
        """Store the valid part of a batch; without `partial`, all of the batch or nothing.

        Raises:
            Unavailable: nothing was stored, or in rare cases all of it; retrying is safe.
            LimitExceeded: the key or its tenant exceeds a limit; nothing was stored.
            BatchTooLarge: the batch is larger than the key or its tenant may ever send at once.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                outcome = await self._take(decoded, principal, format_name, options)
        except TimeoutError:
            raise DeadlineExceeded("storing takes too long; send the batch again") from None
        if not options.dry_run:
            self._accepted(format_name).inc(outcome.accepted)
            if decoded.exemplars:
                self._telemetry.exemplars.labels(format_name).inc(decoded.exemplars)
        for code, samples in outcome.verdicts.samples_by_code.items():
            self._telemetry.rejected.labels(format_name, code).inc(samples)
        return outcome

    async def _take(
        self, decoded: Decoded, principal: Principal, format_name: str, options: WriteOptions
    ) -> Outcome:
        space = KeySpace(principal.tenant_id, format_name)
        series = await self._series.find(space, principal, decoded)
        kept = self._bounds.check(decoded, series.find_samples(decoded))
        verdicts = decoded.verdicts
        if verdicts and not options.partial:
            return Outcome(0, verdicts, None)
        accepted = len(decoded.times) if kept is None else int(np.count_nonzero(kept))
        if options.dry_run:
            return Outcome(accepted, verdicts, None, kept)
        await self._limiter.admit_samples(principal, accepted)
        with self._writer.room_for(accepted):
            # Before the series are cached: decoders skip the metadata of keys in the cache.
            await self._metadata.write(principal, decoded.metadata)
            if accepted == 0:  # Prometheus sends metadata in separate requests
                return Outcome(0, verdicts, None, kept)
            ids = await self._series.create(space, decoded, series)
            await self._learn(space.tenant_id, decoded, ids, new=len(series.names))
            columns = self._to_columns(ids, decoded, kept)
            commit = await self._writer.write(space.tenant_id, columns)
        return Outcome(accepted, verdicts, commit, kept)

    async def _learn(self, tenant_id: int, decoded: Decoded, ids: Int64s, *, new: int) -> None:
        """Let the decoder remember the body, unless some of its series are refused."""
        if decoded.learn is None or not ids.all():
            return
        learn = partial(decoded.learn, ids, are_new=2 * new > len(ids))
        if len(decoded.times) > _OFF_LOOP_SAMPLES:
            with suppress(Overloaded):  # then the next body like this one is learned
                await self.offload.run(tenant_id, learn)
        else:
            learn()

    def _to_columns(self, ids: Int64s, decoded: Decoded, kept: Bools | None) -> Columns:
        columns = Columns(
            ids.repeat(decoded.counts),
            to_us(decoded.times, decoded.unit_ns),
            decoded.values,
        )
        if kept is not None:
            columns = columns.picked(kept)
        if decoded.unit_ns < 1000:  # noqa: PLR2004  # finer than the stored resolution
            self._telemetry.folded.inc(len(columns) - len(latest_arrivals(columns)))
        return columns

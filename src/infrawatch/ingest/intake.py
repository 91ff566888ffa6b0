"""The pipeline of every batch, whatever its format: bounds → series → commit."""

import asyncio
from collections.abc import Hashable, Iterator, Mapping, Sequence
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
from infrawatch.ingest.scheduling.offload import Offload
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace
from infrawatch.ingest.series.layouts import Layouts
from infrawatch.ingest.series.naming import Names, read_names
from infrawatch.ingest.series.quota import SeriesQuota, UnknownSeries
from infrawatch.ingest.series.resolver import Resolver
from infrawatch.ingest.verdicts import Verdicts
from infrawatch.ingest.writer import Commit, GroupWriter
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Bools, Columns, Int64s, latest_arrivals
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata, MetadataRepository
from infrawatch.telemetry import Telemetry

Ids = list[int | None] | Int64s
"""One id per series: a list while some may be missing, an array once all are known."""

_OFF_LOOP_NAMES = 1_000
_OFF_LOOP_NAMES_BYTES = 128 * 1024
"""Reading this many names, or this many bytes, takes about 20 ms; more are read in a thread."""

_OFF_LOOP_SAMPLES = 50_000
"""Remembering a body with this many samples takes five milliseconds; larger ones in a thread."""

_FORMATS = 64
"""More than there are; looking up the counter of one takes longer than counting."""

_METADATA_REMEMBERED = 100_000
"""Maximum number of metrics whose stored metadata is remembered; beyond it, all are forgotten."""


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
        self._database = database
        self._writer = writer
        self._cache = cache
        self._telemetry = telemetry
        self._accepted = lru_cache(_FORMATS)(telemetry.accepted.labels)
        self._bounds = rules.bounds
        self._limiter = rules.limiter
        self._deadline_s = rules.deadline.total_seconds()
        self._series_quota = SeriesQuota(database, rules.limiter.active_series)
        self._resolver = Resolver(database, cache, telemetry)
        self.offload = Offload(self._series_quota.is_flooded)
        self._known_metadata: dict[tuple[int, str], int] = {}  # hashes, because texts may be long

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
        ids = self._find_ids(space, decoded)
        names = await self._name_series(principal, decoded, ids)
        kept = self._bounds.check(decoded, self._find_named(decoded, ids, names))
        verdicts = decoded.verdicts
        if verdicts and not options.partial:
            return Outcome(0, verdicts, None)
        accepted = len(decoded.times) if kept is None else int(np.count_nonzero(kept))
        if options.dry_run:
            return Outcome(accepted, verdicts, None, kept)
        await self._limiter.admit_samples(principal, accepted)
        with self._writer.room_for(accepted):
            # Before the series are cached: decoders skip the metadata of keys in the cache.
            await self._store_metadata(principal, decoded.metadata)
            if accepted == 0:  # Prometheus sends metadata in separate requests
                return Outcome(0, verdicts, None, kept)
            await self._create(space, names, decoded.keys, ids)
            column = _to_column(ids)
            await self._learn(space.tenant_id, decoded, column, new=len(names))
            columns = self._to_columns(column, decoded, kept)
            commit = await self._writer.write(space.tenant_id, columns)
        return Outcome(accepted, verdicts, commit, kept)

    def _find_ids(self, space: KeySpace, decoded: Decoded) -> Ids:
        if decoded.ids is not None:
            return decoded.ids
        column = self._cache.find_column(space, decoded.keys)
        return self._cache.find(space, decoded.keys) if column is None else column

    async def _name_series(self, principal: Principal, decoded: Decoded, ids: Ids) -> Names:
        """Read the names of uncached series; add verdicts for those that may not be stored."""
        if isinstance(ids, np.ndarray) or None not in ids:
            return {}
        tenant_id, max_series = principal.tenant_id, self._limiter.max_series(principal)
        if max_series is None:
            parts = await self._read_names(tenant_id, decoded, ids)
            return {place: name for part in parts for place, name in part.items()}
        async with self._series_quota.turn(tenant_id) as low_priority:
            parts = (
                read_names(decoded, ids)
                if low_priority
                else await self._read_names(tenant_id, decoded, ids)
            )
            unknown = UnknownSeries(tenant_id, decoded, parts)
            return await self._series_quota.keep_within(max_series, unknown, low_priority)

    async def _read_names(
        self, tenant_id: int, decoded: Decoded, ids: Sequence[int | None]
    ) -> Iterator[Names]:
        reading = read_names(decoded, ids)
        if _are_few(decoded.keys, ids):
            return reading
        return iter(await self.offload.run(tenant_id, list, reading))

    def _find_named(
        self, decoded: Decoded, ids: Ids, names: Mapping[int, SeriesName]
    ) -> Bools | None:
        """Mark the samples whose series has an id or a name; None means all of them."""
        if not decoded.verdicts:
            return None
        is_named = [series_id is not None or n in names for n, series_id in enumerate(ids)]
        return np.repeat(np.array(is_named, np.bool_), decoded.counts)

    async def _create(
        self,
        space: KeySpace,
        names: Mapping[int, SeriesName],
        keys: Sequence[Hashable],
        ids: Ids,
    ) -> None:
        """Fill in the missing ids; the cache learns them once they are committed."""
        if not names or isinstance(ids, np.ndarray):
            return
        resolved = await self._resolver.resolve(
            space, {keys[number]: name for number, name in names.items()}
        )
        for number in names:
            ids[number] = resolved[keys[number]]

    async def _store_metadata(self, principal: Principal, metadata: Mapping[str, Metadata]) -> None:
        """Store what has changed; at most as many metrics have metadata as series may be active."""
        known, tenant_id = self._known_metadata, principal.tenant_id
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
        if len(known) > _METADATA_REMEMBERED:
            known.clear()
        known |= {(tenant_id, metric): hash(one) for metric, one in changed.items()}

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


def _to_column(ids: Ids) -> Int64s:
    """Return the ids as a column, with 0 for series that are refused."""
    if isinstance(ids, np.ndarray):
        return ids
    return np.array([one or 0 for one in ids] if None in ids else ids, np.int64)


def _are_few(keys: Sequence[Hashable], ids: Sequence[int | None]) -> bool:
    """Whether the series without an id are few enough to read their names on the event loop."""
    new = [key for key, series_id in zip(keys, ids, strict=True) if series_id is None]
    texts = (key for key in new if isinstance(key, bytes | str))
    return len(new) <= _OFF_LOOP_NAMES and sum(map(len, texts)) <= _OFF_LOOP_NAMES_BYTES

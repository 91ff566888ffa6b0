"""Query execution: selector → series → samples → arithmetic."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import chain, repeat
from typing import TypeVar
from uuid import UUID

from infrawatch.errors import InvalidCursor, QueryTooBroad
from infrawatch.model.samples import is_stale
from infrawatch.model.selector import METRIC_LABEL, Selector
from infrawatch.model.timerange import FAR_FUTURE_US, TimeRange
from infrawatch.query.aggregate import lookback_us
from infrawatch.query.grouping import Ranges
from infrawatch.query.limits import QueryContext, ReadLimits, deadline_exceeded, holding_slot
from infrawatch.query.ranges import RangeQuery, from_buckets, from_stored
from infrawatch.query.results import SampleStream, SelectedSamples, SeriesExtent
from infrawatch.query.rollups import find_resolution, is_rolled_up
from infrawatch.store.database import Database
from infrawatch.store.metadata import Metadata
from infrawatch.store.packed_samples import check_total
from infrawatch.store.rollups.buckets import Buckets
from infrawatch.store.selection.catalog import Series, SeriesCatalog
from infrawatch.store.snapshot import Snapshot

MAX_STEPS = 11_000
"""As in Prometheus (web/api/v1): a point per pixel of any screen, with room to spare."""

_OFF_LOOP_SAMPLES = 200_000
"""About ten milliseconds of numpy; more than that on the event loop would delay other requests."""

_LARGE_AT_ONCE = 2
"""Large answers computed off the event loop at a time: two keep two processors busy, and samples
take thirty times as much memory while they are unpacked and sorted."""

_LARGE_RESULT_SAMPLES = 1_000_000
"""A query that holds more than these 24 MB of samples is one of _LARGE_AT_ONCE to do so."""

_PAUSES_S = (0.02, 0.04, 0.08, 0.16, 0.32)
"""Pauses between checks of `wait_for`; an acknowledged write is visible after the first at most."""


_Answer = TypeVar("_Answer")


class Reader:
    """Answers queries, each from one snapshot of the database."""

    def __init__(self, database: Database, epoch: UUID, limits: ReadLimits) -> None:
        self._database = database
        self._epoch = epoch
        self._limits = limits
        self._large_computations = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._large_results = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._catalog = SeriesCatalog()

    async def series(
        self, context: QueryContext, selector: Selector, *, limit: int, after: int
    ) -> list[SeriesExtent]:
        """At most `limit` series with ids above `after`, ordered by id."""
        async with self._snapshot(context) as snapshot:
            series = await snapshot.series.page(selector, limit=limit, after=after)
            ends = await snapshot.samples.find_ends([one.id for one in series])
        return [SeriesExtent(one, *ends.get(one.id, (None, None))) for one in series]

    async def label_names(
        self, context: QueryContext, selector: Selector | None
    ) -> Mapping[str, int]:
        """Label names, including `__name__`, with the number of series that have each."""
        async with self._snapshot(context) as snapshot:
            if selector is None:
                return await snapshot.series.count_labels()
            series = await self._select(context, snapshot, selector)
        names = Counter(name for one in series for name in (METRIC_LABEL, *one.labels))
        return dict(sorted(names.items()))

    async def label_values(
        self, context: QueryContext, label: str, selector: Selector | None, *, limit: int
    ) -> Mapping[str, int]:
        """At most `limit` values of a label, sorted, with the number of series of each."""
        async with self._snapshot(context) as snapshot:
            if selector is None:
                return await snapshot.series.count_values(label, limit=limit)
            series = await self._select(context, snapshot, selector)
        every = (one.metric if label == METRIC_LABEL else one.labels.get(label) for one in series)
        values = Counter(value for value in every if value is not None)
        return dict(sorted(values.items())[:limit])

    async def metadata(self, context: QueryContext, metric: str | None) -> Mapping[str, Metadata]:
        """Metadata by metric name: of one metric, or of all that have any.

        Raises:
            QueryTooBroad: more metrics have metadata than the series limit of one query.
        """
        limit, metrics = self.limits_of(context).series, None if metric is None else [metric]
        async with self._snapshot(context) as snapshot:
            found = await snapshot.metadata.list(metrics, limit=limit + 1)
        if len(found) > limit:
            raise QueryTooBroad(f"more than {limit} metrics have metadata: ask for one `metric`")
        return found

    async def latest(
        self, context: QueryContext, selector: Selector, *, since_us: int
    ) -> SelectedSamples:
        """The last sample of each series since `since_us`, without series that ended (stale)."""
        async with self._snapshot(context) as snapshot:
            series = await self._select(context, snapshot, selector)
            span = TimeRange(since_us, FAR_FUTURE_US)
            last = await snapshot.samples.find_last([one.id for one in series], span)
        return SelectedSamples({one.id: one for one in series}, last.picked(~is_stale(last.values)))

    async def samples(
        self, context: QueryContext, selector: Selector, span: TimeRange
    ) -> SampleStream:
        """Every sample of the selected series in a span, still packed.

        Raises:
            QueryTooBroad: more series or samples than one query may read.
        """
        async with self._snapshot(context) as snapshot:
            series = await self._select(context, snapshot, selector)
            stored = await snapshot.samples.fetch([one.id for one in series], span)
        stored = await self._compute(len(stored), stored.settled)
        return SampleStream({one.id: one for one in series}, stored.blocks(), len(stored))

    @asynccontextmanager
    async def find(
        self, context: QueryContext, spans: Mapping[Selector, TimeRange]
    ) -> AsyncGenerator[Mapping[Selector, SelectedSamples], None]:
        """Read every sample of several selectors, each within its own span, from one snapshot.

        They stay in memory during the block, so other queries that need much wait for its end.

        Raises:
            QueryTooBroad: more series or samples than one query may read.
            DeadlineExceeded: reading took too long, or other queries left no room.
        """
        async with AsyncExitStack() as stack:
            found = await self._find(context, spans, stack)
            if found is None:
                limits = self.limits_of(context)
                await stack.enter_async_context(holding_slot(self._large_results, limits))
                found = await self._find(context, spans, None)
                assert found is not None
            yield found

    async def _find(
        self,
        context: QueryContext,
        spans: Mapping[Selector, TimeRange],
        stack: AsyncExitStack | None,
    ) -> Mapping[Selector, SelectedSamples] | None:
        """Read it all, as `find` does; None if it takes more room than the others leave.

        It is then read again later, because waiting in the snapshot would keep its connection.
        """
        found: dict[Selector, SelectedSamples] = {}
        total, limits = 0, self.limits_of(context)
        async with self._snapshot(context) as snapshot:
            for selector, span in spans.items():
                series = await self._select(context, snapshot, selector)
                stored = await snapshot.samples.fetch([one.id for one in series], span)
                if stack is not None and total + len(stored) > _LARGE_RESULT_SAMPLES:
                    if self._large_results.locked():
                        return None
                    await stack.enter_async_context(holding_slot(self._large_results, limits))
                    stack = None
                columns = await self._compute(len(stored), stored.samples)
                check_total(total := total + len(columns), limits.samples)
                deltas = await _find_deltas(snapshot, series)
                found[selector] = SelectedSamples({one.id: one for one in series}, columns, deltas)
        return found

    def limits_of(self, context: QueryContext) -> ReadLimits:
        """The limits of one query in this context, with the time that is left to it."""
        return self._limits.within(context)

    async def range(self, context: QueryContext, query: RangeQuery) -> Ranges:
        """One value per step of each series, or of each group of series.

        Series without a sample in the span are left out.

        Raises:
            QueryTooBroad: more series, samples or steps than one query may read.
        """
        steps = query.steps
        if steps.count > MAX_STEPS:
            raise QueryTooBroad(
                f"{steps.count} steps are more than {MAX_STEPS}: ask for a longer step or a "
                "shorter span"
            )
        async with self._snapshot(context) as snapshot:
            series = await self._select(context, snapshot, query.selector)
            max_values = self.limits_of(context).samples
            if len(series) * steps.count > max_values:
                raise QueryTooBroad(
                    f"{len(series)} series of {steps.count} steps are more than "
                    f"{max_values} values: ask for a longer step or fewer series, or "
                    "raise INFRAWATCH_READ_MAX_SAMPLES"
                )
            known = {one.id: one for one in series}
            buckets = await _read_buckets(snapshot, list(known), query)
            if buckets is not None:
                return await self._compute(
                    len(buckets.times_us), partial(from_buckets, known, buckets, query)
                )
            before_us = lookback_us(query.function, steps.step_us)
            span = TimeRange(max(steps.span.start_us - before_us, 0), steps.span.end_us)
            stored = await snapshot.samples.fetch(list(known), span)
            needs_deltas = lookback_us(query.function, 0) > 0
            deltas = await _find_deltas(snapshot, series) if needs_deltas else set()
        answer = partial(from_stored, known, stored, deltas, query)
        return await self._compute(len(stored), answer)

    async def _compute(self, numbers: int, work: Callable[[], _Answer]) -> _Answer:
        """Run a computation, in a thread if it takes long."""
        return work() if numbers <= _OFF_LOOP_SAMPLES else await self.in_thread(numbers, work)

    async def in_thread(
        self, numbers: int, work: Callable[[], _Answer], limits: ReadLimits | None = None
    ) -> _Answer:
        """Run a computation in a thread; only a few large ones run at the same time.

        Raises:
            DeadlineExceeded: other large computations left no room until the deadline.
        """
        if numbers <= _OFF_LOOP_SAMPLES:
            return await asyncio.to_thread(work)
        async with holding_slot(self._large_computations, limits or self._limits):
            return await asyncio.to_thread(work)

    async def _select(
        self, context: QueryContext, snapshot: Snapshot, selector: Selector
    ) -> list[Series]:
        max_series = self.limits_of(context).series
        series = await snapshot.series.select(selector, limit=max_series + 1)
        if len(series) > max_series:
            raise QueryTooBroad(
                f"the selector means more than {max_series} series: add a label to it, or raise "
                "INFRAWATCH_READ_MAX_SERIES or your limit (`infrawatch limits`)"
            )
        return series

    @asynccontextmanager
    async def _snapshot(self, context: QueryContext) -> AsyncGenerator[Snapshot, None]:
        """Open a snapshot that contains the write the query waits for.

        Raises:
            DeadlineExceeded: the write did not become visible, or the answer took too long.
            InvalidCursor: the cursor comes from another database.
        """
        awaited = context.wait_for
        if awaited is not None and awaited.epoch != self._epoch:
            raise InvalidCursor(
                "the cursor comes from another database: use one that this server gave you"
            )
        limits = self.limits_of(context)
        try:
            async with asyncio.timeout(limits.deadline.total_seconds()):
                for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
                    async with self._database.reading() as connection:
                        snapshot = Snapshot.on(
                            connection, context.tenant_id, limits.samples, self._catalog
                        )
                        if awaited is None or await snapshot.writers.has_reached(awaited):
                            awaited = None
                            yield snapshot
                            return
                    await asyncio.sleep(pause_s)
        except TimeoutError:
            what = "there is no answer" if awaited is None else "the write of wait_for is not here"
            raise deadline_exceeded(what, limits) from None


async def _read_buckets(
    snapshot: Snapshot, ids: Sequence[int], query: RangeQuery
) -> Buckets | None:
    """The rollup buckets that answer the query; None if the samples must be read instead."""
    steps = query.steps
    resolution = find_resolution(query.function, steps)
    if resolution is not None:
        return await snapshot.buckets.read(ids, steps.span, resolution)
    if is_rolled_up(query.function):
        return await snapshot.buckets.read_outlived(ids, steps.span, steps.step_us)
    return None


async def _find_deltas(snapshot: Snapshot, series: Sequence[Series]) -> set[str]:
    """The metrics of delta temporality, whose samples are increments."""
    metadata = await snapshot.metadata.list(sorted({one.metric for one in series}))
    return {metric for metric, one in metadata.items() if one.temporality == "delta"}

"""The limit on a tenant's active series, and the refusal of new series beyond it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Container, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from time import monotonic
from typing import NamedTuple

from infrawatch.access.limits.active_series import ActiveSeries
from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.scheduling.low_priority import LowPriority
from infrawatch.ingest.series.label_growth import LabelGrowth
from infrawatch.ingest.series.naming import Names
from infrawatch.ingest.verdicts import MAX_SHOWN, Verdict
from infrawatch.model.labels import SeriesName, to_fingerprints
from infrawatch.store.database import Database
from infrawatch.store.series import SeriesRepository

_AT_ONCE = 250
"""Names per look-up, which blocks the event loop for about two milliseconds."""

CALM_AFTER_S = 60.0
"""How long after a refusal a tenant counts as flooded; senders retry sooner than that."""

_LOOKED_AT = 1_000
"""Number of new series per batch whose labels are looked at; most floods vary a single label."""

TOO_MANY_SERIES = "too_many_series"

Fingerprints = Mapping[SeriesName, bytes]
"""Names and their fingerprints."""


class _Flood:
    """What grows, when a tenant was last refused new series, and whose turn it is since."""

    def __init__(self) -> None:
        self.growth = LabelGrowth()
        self.refused_at = -CALM_AFTER_S
        self.turn = asyncio.Lock()

    def is_on(self) -> bool:
        return monotonic() - self.refused_at < CALM_AFTER_S


class UnknownSeries(NamedTuple):
    """The names of the unknown series of a batch, by position, in parts of under a millisecond."""

    tenant_id: int
    decoded: Decoded
    parts: Iterator[Names]


class SeriesQuota:
    """Admits stored series, and new ones up to the tenant's limit.

    If a tenant was refused new series recently, its names are read and looked up at low priority,
    one batch at a time, taking turns with other such tenants, because most are refused again.
    Refused series are counted but not kept, because all that a batch holds is freed at once.
    """

    def __init__(self, database: Database, active_series: ActiveSeries) -> None:
        self._database = database
        self._active_series = active_series
        self._floods: defaultdict[int, _Flood] = defaultdict(_Flood)
        self._turn = asyncio.Lock()

    def is_flooded(self, tenant_id: int) -> bool:
        """Whether a tenant was refused new series recently."""
        return tenant_id in self._floods and self._floods[tenant_id].is_on()

    @asynccontextmanager
    async def turn(self, tenant_id: int) -> AsyncGenerator[LowPriority | None, None]:
        """Wait for the turn to read the names of a batch; yields None for full speed."""
        flood = self._floods[tenant_id]
        if not flood.is_on():
            yield None
            return
        async with flood.turn:
            yield LowPriority(self._turn)

    async def keep_within(
        self, max_series: int, unknown: UnknownSeries, low_priority: LowPriority | None
    ) -> dict[int, SeriesName]:
        """Return the names that may be resolved; the others get verdicts.

        Raises:
            StoreUnavailable: series cannot be looked up or counted now.
        """
        flood, kept = self._floods[unknown.tenant_id], dict[int, SeriesName]()
        new_series = _NewSeries(unknown.decoded, flood.growth)
        while part := await _next_part(unknown.parts, low_priority):
            async with low_priority.piece() if low_priority else nullcontext():
                new = await self._find_new(unknown.tenant_id, part)
                unseen = new_series.find_unseen(new)
                granted = await self._grant(unknown.tenant_id, unseen, max_series)
                new_series.admit(unseen, granted)
                kept |= new_series.without_refused(part, new)
        if new_series.refuse(max_series):
            flood.refused_at = monotonic()
        return kept

    async def _find_new(self, tenant_id: int, part: Mapping[int, SeriesName]) -> Fingerprints:
        """Return the names that are not stored, in order."""
        distinct = dict.fromkeys(part.values())
        names = dict(zip(to_fingerprints(distinct), distinct, strict=True))
        async with self._database.reading() as connection:
            stored = await SeriesRepository(connection, tenant_id).find(names)
        return {name: key for key, name in names.items() if key not in stored}

    async def _grant(self, tenant_id: int, unseen: Fingerprints, max_series: int) -> Sequence[bool]:
        async def count_stored(enough: int) -> int:
            async with self._database.reading() as connection:
                series = SeriesRepository(connection, tenant_id)
                return await series.count_active(at_least=enough)

        if not unseen:
            return ()
        return await self._active_series.grant(
            tenant_id, list(unseen.values()), max_series, count_stored
        )


async def _next_part(parts: Iterator[Names], low_priority: LowPriority | None) -> Names:
    """Collect the names for one look-up; empty at the end."""
    together: Names = {}
    while len(together) < _AT_ONCE:
        async with low_priority.piece() if low_priority else nullcontext():
            part = next(parts, None)
        if part is None:
            break
        together |= part
    return together


class _NewSeries:
    """The series of a batch that are not stored: admits some, adds verdicts for the others."""

    def __init__(self, decoded: Decoded, growth: LabelGrowth) -> None:
        self._decoded = decoded
        self._growth = growth
        self._is_admitted: dict[int, bool] = {}  # by hash, because freeing names takes long
        self._shown: list[int] = []
        self._others = self._others_samples = 0

    def find_unseen(self, new: Fingerprints) -> Fingerprints:
        """Return the names of a part that were in no earlier part."""
        return {name: one for name, one in new.items() if hash(name) not in self._is_admitted}

    def admit(self, unseen: Fingerprints, granted: Sequence[bool]) -> None:
        """Admit the names that were granted."""
        for name, is_granted in zip(unseen, granted, strict=True):
            self._is_admitted[hash(name)] = is_granted
            if len(self._is_admitted) <= _LOOKED_AT:
                self._growth.add(name)

    def without_refused(
        self, part: Mapping[int, SeriesName], new: Container[SeriesName]
    ) -> dict[int, SeriesName]:
        """Return the names of a part that are stored or were admitted."""
        kept = {}
        for place, name in part.items():
            if name not in new or self._is_admitted[hash(name)]:
                kept[place] = name
            elif len(self._shown) < MAX_SHOWN:
                self._shown.append(place)
            else:
                self._others += 1
                self._others_samples += int(self._decoded.counts[place])
        return kept

    def refuse(self, max_series: int) -> bool:
        """Add verdicts for the refused series; return whether there are any."""
        verdicts = self._decoded.verdicts
        why = self._explained(max_series) if self._shown else ""
        for place in self._shown:
            index, locator = self._decoded.locate(place, 0)
            samples = int(self._decoded.counts[place])
            verdicts.add(Verdict(index, locator, TOO_MANY_SERIES, why, samples))
        if self._others:
            verdicts.count_only(
                TOO_MANY_SERIES, verdicts=self._others, samples=self._others_samples
            )
        return bool(self._shown)

    def _explained(self, max_series: int) -> str:
        """Explain the refusal; the label with the most values usually is the cause."""
        label, values = self._growth.find_largest()
        return (
            f"the tenant may have {max_series} active series and has them; of its latest new ones "
            f"the label {label} differs most ({values} values): leave it out, or have "
            "`infrawatch limits set --active-series` raised"
        )

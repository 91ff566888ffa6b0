"""How many more series a tenant may have, and which of a batch there is no room for."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Container, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from itertools import chain, islice
from time import monotonic
from typing import NamedTuple

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.unhurried import Unhurried
from infrawatch.ingest.verdicts import MAX_SHOWN, Verdict
from infrawatch.model.labels import SeriesName
from infrawatch.model.selector import METRIC_LABEL
from infrawatch.store.database import Database
from infrawatch.store.series import SeriesRepository

_AT_ONCE = 250
"""To look up so many keeps everybody else waiting for about two milliseconds."""

COUNT_AGAIN_S = 60.0
COUNT_SOON_S = 5.0
"""How old a count may be while there is room, and when there is none: series come to rest."""

CALM_AFTER_S = 60.0
"""Senders come again sooner."""

TOO_MANY_SERIES = "too_many_series"


class _Count:
    """What a tenant had when it was counted, and what was granted since."""

    def __init__(self) -> None:
        self.series = 0
        self.counted_at = -COUNT_AGAIN_S
        self.counting = asyncio.Lock()
        self.refused_at = -CALM_AFTER_S
        self.turn = asyncio.Lock()

    def is_older_than(self, age_s: float) -> bool:
        return monotonic() - self.counted_at >= age_s

    def is_flooded(self) -> bool:
        return monotonic() - self.refused_at < CALM_AFTER_S


class Asked(NamedTuple):
    """The series of a batch that are not known, by their place in it."""

    tenant_id: int
    decoded: Decoded
    names: Mapping[int, SeriesName]


class SeriesRoom:
    """Lets stored series pass, and as many new ones as there is room for.

    Servers learn of what others granted when they count again, so several of them may together
    grant a little more.

    Names of a tenant that was refused new series lately are read and looked up unhurriedly, one
    batch of it after the other, taking turns with other such tenants: most are refused again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: defaultdict[int, _Count] = defaultdict(_Count)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, tenant_id: int) -> AsyncGenerator[Unhurried | None, None]:
        """How the names of a batch are to be read; None is as fast as they can be."""
        count = self._counts[tenant_id]
        if not count.is_flooded():
            yield None
            return
        async with count.turn:
            yield Unhurried(self._turn)

    async def keep_within(
        self, most: int, asked: Asked, unhurried: Unhurried | None
    ) -> dict[int, SeriesName]:
        """The names that may be resolved; the others get verdicts.

        Raises:
            StoreUnavailable: they cannot be looked up or counted now.
        """
        new = await self._find_new(asked, unhurried)
        granted = await self._grant(asked.tenant_id, len(new.places), most)
        if granted == len(new.places):
            return dict(asked.names)
        self._counts[asked.tenant_id].refused_at = monotonic()
        refused = set(chain.from_iterable(list(new.places.values())[granted:]))
        _refuse(asked.decoded, sorted(refused), new.explained(most))
        return {place: name for place, name in asked.names.items() if place not in refused}

    async def _find_new(self, asked: Asked, unhurried: Unhurried | None) -> "_New":
        new, every = _New(), iter(asked.names.items())
        while part := list(islice(every, _AT_ONCE)):
            names = list(dict.fromkeys(name for _, name in part))
            piece = unhurried.piece() if unhurried else nullcontext()
            async with piece, self._database.reading() as connection:
                found = await SeriesRepository(connection, asked.tenant_id).find(names)
                new.learn(part, {n for n, known in zip(names, found, strict=True) if known is None})
        return new

    async def _grant(self, tenant_id: int, wanted: int, most: int) -> int:
        count = self._counts[tenant_id]
        async with count.counting:
            has_room = count.series + wanted <= most
            if count.is_older_than(COUNT_AGAIN_S if has_room else COUNT_SOON_S):
                async with self._database.reading() as connection:
                    series = SeriesRepository(connection, tenant_id)
                    count.series = await series.count_active(at_least=most - wanted)
                count.counted_at = monotonic()
            granted = max(0, min(wanted, most - count.series))
            count.series += granted
        return granted


class _New:
    """Series of a batch that are not stored, in order, and where each is; `learn` takes them in."""

    def __init__(self) -> None:
        self.places: defaultdict[SeriesName, list[int]] = defaultdict(list)
        self._values: defaultdict[str, set[str]] = defaultdict(set)

    def learn(self, part: Iterable[tuple[int, SeriesName]], new: Container[SeriesName]) -> None:
        """Take in those of a part of the batch that are `new`."""
        for place, name in part:
            if name not in new:
                continue
            self.places[name].append(place)
            self._values[METRIC_LABEL].add(name.metric)
            for label, value in name.labels:
                self._values[label].add(value)

    def explained(self, most: int) -> str:
        """Why there is no room; the label with the most values mostly is the reason."""
        label = max(self._values, key=lambda one: len(self._values[one]))
        return (
            f"the tenant may have {most} active series and has them; of {len(self.places)} new "
            f"ones here the label {label} differs most ({len(self._values[label])} values): leave "
            "it out, or have `infrawatch limits set --active-series` raised"
        )


def _refuse(decoded: Decoded, places: list[int], why: str) -> None:
    shown = MAX_SHOWN - len(decoded.verdicts.shown)
    for number in places[:shown]:
        samples = int(decoded.counts[number])
        index, locator = decoded.locate(number, 0)
        decoded.verdicts.add(Verdict(index, locator, TOO_MANY_SERIES, why, samples))
    if rest := places[shown:]:
        samples = int(decoded.counts[rest].sum())
        decoded.verdicts.count_only(TOO_MANY_SERIES, verdicts=len(rest), samples=samples)

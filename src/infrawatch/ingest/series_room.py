"""How many more series a tenant may have, and which of a batch there is no room for."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.verdicts import Verdict
from infrawatch.model.labels import SeriesName
from infrawatch.store.database import Database
from infrawatch.store.series import SeriesRepository

_AT_ONCE = 500
"""To look up so many keeps everybody else waiting for about three milliseconds."""

COUNT_AGAIN_S = 60.0
COUNT_SOON_S = 5.0
"""How old a count may be while there is room, and when there is none: series come to rest."""

TOO_MANY_SERIES = "too_many_series"


class _Count:
    """What a tenant had when it was counted, and what was granted since."""

    def __init__(self) -> None:
        self.series = 0
        self.counted_at = -COUNT_AGAIN_S
        self.counting = asyncio.Lock()

    def is_older_than(self, age_s: float) -> bool:
        return monotonic() - self.counted_at >= age_s


class SeriesRoom:
    """Lets stored series pass, and as many new ones as there is room for.

    Servers learn of what others granted when they count again, so several of them may together
    grant a little more.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: defaultdict[int, _Count] = defaultdict(_Count)

    async def keep_within(
        self, most: int, tenant_id: int, decoded: Decoded, names: Mapping[int, SeriesName]
    ) -> dict[int, SeriesName]:
        """The names that may be resolved; the others get verdicts.

        Raises:
            StoreUnavailable: they cannot be looked up or counted now.
        """
        new = await self._find_new(tenant_id, list(dict.fromkeys(names.values())))
        granted = await self._grant(tenant_id, len(new), most)
        refused = frozenset(new[granted:])
        if refused:
            _refuse(decoded, names, refused, most)
        return {number: name for number, name in names.items() if name not in refused}

    async def _find_new(self, tenant_id: int, asked: Sequence[SeriesName]) -> list[SeriesName]:
        """Those that are not stored, in order."""
        new: list[SeriesName] = []
        async with self._database.reading() as connection:
            series = SeriesRepository(connection, tenant_id)
            for start in range(0, len(asked), _AT_ONCE):
                part = asked[start : start + _AT_ONCE]
                found = await series.find(part)
                new += [name for name, known in zip(part, found, strict=True) if known is None]
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


def _refuse(
    decoded: Decoded,
    names: Mapping[int, SeriesName],
    refused: frozenset[SeriesName],
    most: int,
) -> None:
    label, values = _grown_most(refused)
    detail = (
        f"the tenant may have {most} active series and has them; of {len(refused)} new ones here "
        f"the label {label} differs most ({values} values): leave it out, or have "
        "`infrawatch limits set --active-series` raised"
    )
    for number, name in names.items():
        if name not in refused:
            continue
        samples = int(decoded.counts[number])
        if decoded.verdicts.is_full:
            decoded.verdicts.count_only(TOO_MANY_SERIES, verdicts=1, samples=samples)
            continue
        index, locator = decoded.locate(number, 0)
        decoded.verdicts.add(Verdict(index, locator, TOO_MANY_SERIES, detail, samples))


def _grown_most(names: Iterable[SeriesName]) -> tuple[str, int]:
    """The label with the most values among new series, and how many; the metric counts as one."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        values["__name__"].add(name.metric)
        for label, value in name.labels:
            values[label].add(value)
    label = max(values, key=lambda one: len(values[one]))
    return label, len(values[label])

"""Series: resolves names to ids and selectors to series."""

import asyncio
import json
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import Any

import numpy as np
from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.model.labels import Labels, SeriesName, shard_of, shard_of_place, to_fingerprints
from infrawatch.model.samples import Int64s
from infrawatch.model.selector import METRIC_LABEL, Predicate, Selector, to_predicate
from infrawatch.store.columns.copy import from_joined_elements, to_array_text
from infrawatch.store.connections import to_driver
from infrawatch.store.journal import UNCOMPACTED
from infrawatch.store.selection.catalog import Series, SeriesCatalog
from infrawatch.store.selection.conditions import split
from infrawatch.store.selection.requested_ids import BLOCK_BITS
from infrawatch.store.selection.statements import NAMED, PAGE, ids_of, named_of, next_of, to_series

# One index descent per requested series; (tenant, shard, fingerprint) is unique. In a plain join
# PostgreSQL hashes all series of the tenant until it has analyzed the table, about a minute after a
# fleet has started sending (docs/decisions/0011).
_FIND = """
SELECT requested.fingerprint, s.id
FROM unnest(CAST(CAST($2 AS text) AS smallint[]), CAST(CAST($3 AS text) AS uuid[]))
    AS requested (shard, fingerprint)
CROSS JOIN LATERAL (
    SELECT id FROM series WHERE tenant_id = $1 AND shard = requested.shard
        AND fingerprint = requested.fingerprint OFFSET 0
) AS s
"""

# Of concurrent transactions that create the same series, one wins the whole row. As all insert in
# the same order, they cannot deadlock. Neither metrics nor JSON contain newlines; with one there
# would be a row without a shard, and all of them would be refused.
_CREATE = """
INSERT INTO series (id, shard, tenant_id, metric, labels, fingerprint)
SELECT (nextval('series_number') << 6) | new.shard, new.shard, $1, new.metric,
    CAST(new.labels AS jsonb), new.fingerprint
FROM unnest(
    CAST(CAST($2 AS text) AS smallint[]), CAST(CAST($3 AS text) AS uuid[]),
    string_to_array($4, chr(10)), string_to_array($5, chr(10))
) AS new (shard, fingerprint, metric, labels)
ON CONFLICT (tenant_id, shard, fingerprint) DO NOTHING
RETURNING fingerprint, id
"""

_PROBED = 128
"""Series probed, in a fifth of a millisecond, to decide whether a scan by id pays off."""

_GOOD_PART = 8
"""The scan by id goes on while at least one series in this many matches."""

_ALL_IDS = text("""
SELECT substr(array_send(array_agg(id ORDER BY id)), 21) FROM series
""")

_NAMES = text("""
SELECT s.tenant_id, s.id, s.metric, CAST(s.labels AS text) AS labels
FROM unnest(CAST(:shards AS smallint[]), CAST(:ids AS bigint[])) AS requested (shard, id)
JOIN series s USING (shard, id)
""")

# These read all series of the tenant once; results are small. Text is sorted as Python sorts it,
# whatever the collation of the database.
_COUNT_LABELS = text("""
SELECT name, count(*) FROM (
    SELECT jsonb_object_keys(labels) AS name FROM series WHERE tenant_id = :tenant
    UNION ALL SELECT '__name__' FROM series WHERE tenant_id = :tenant
) AS every GROUP BY name ORDER BY name COLLATE "C"
""")

_COUNT = text("SELECT count(*) FROM series WHERE tenant_id = :tenant")

# Reads the uncompacted samples once, and the index of chunks_head once per series.
_COUNT_ACTIVE = text(f"""
WITH uncompacted AS MATERIALIZED (
    SELECT DISTINCT u.series_id AS id
    {UNCOMPACTED}
    CROSS JOIN LATERAL journal_samples(j.samples, j.series_ids, j.times, j."values", j.odd) u
)
SELECT count(*) FROM series s
WHERE s.tenant_id = :tenant AND (
    s.id IN (SELECT id FROM uncompacted)
    OR EXISTS (
        SELECT FROM chunks_head c CROSS JOIN LATERAL head_runs(c.runs, c.times) r
        WHERE c.shard = s.shard AND c.block = s.id >> {BLOCK_BITS}
            AND c.first_id <= s.id AND c.last_id >= s.id AND r.series_id = s.id
    )
)
""")

_COUNT_METRICS = text("""
SELECT metric, count(*) FROM series WHERE tenant_id = :tenant
GROUP BY metric ORDER BY metric COLLATE "C" LIMIT :limit
""")

_COUNT_VALUES = text("""
SELECT value, count(*) FROM (
    SELECT labels ->> :label AS value FROM series WHERE tenant_id = :tenant
) AS every WHERE value IS NOT NULL GROUP BY value ORDER BY value COLLATE "C" LIMIT :limit
""")

_Row = tuple[int, str, bytes, SeriesName]
"""The shard, place, fingerprint and name of a series: sorted, series of one place get consecutive
ids, so that their samples share rows."""


class SeriesRepository:
    """The series of one tenant."""

    def __init__(
        self, connection: AsyncConnection, tenant_id: int, catalog: SeriesCatalog | None = None
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._catalog = SeriesCatalog() if catalog is None else catalog

    async def resolve(self, names: Sequence[SeriesName]) -> list[int]:
        """Return the id of each name, in order; create missing series.

        Creating them is a single statement, sent without SQLAlchemy: it commits by itself unless
        a transaction has begun. Processes that create the same series concurrently all get the
        same ids.
        """
        fingerprints = to_fingerprints(names)
        rows = _to_rows(fingerprints, names)
        ids = await self._find(rows)
        if missing := _without(rows, ids):
            ids |= await self._create(missing)
            if theirs := _without(missing, ids):  # created concurrently by another process
                ids |= await self._find(theirs)
        return [ids[fingerprint] for fingerprint in fingerprints]

    async def find(self, names: Mapping[bytes, SeriesName]) -> dict[bytes, int]:
        """Return the ids of the names that are stored; names and ids are by fingerprint."""
        return await self._find(_to_rows(names, names.values()))

    async def count_active(self, *, at_least: int) -> int:
        """Return how many series have samples in open windows, about the last two hours.

        The query is slow, so if the tenant has fewer than `at_least` series, all are counted.
        """
        parameters = {"tenant": self._tenant_id}
        stored = int((await self._connection.execute(_COUNT, parameters)).scalar_one())
        if stored < at_least:
            return stored
        return int((await self._connection.execute(_COUNT_ACTIVE, parameters)).scalar_one())

    async def select(self, selector: Selector, *, limit: int, after: int = 0) -> list[Series]:
        """Return at most `limit` series that match a selector and have ids above `after`, by id."""
        conditions, parameters, rest = split(selector)
        parameters |= {"tenant": self._tenant_id, "after": after, "limit": limit}
        if not rest.matchers:
            [[sent]] = await ids_of(conditions).fetch(self._connection, parameters)
            return await self._name(from_joined_elements(sent or b""))
        found: list[Series] = []
        statement = named_of(conditions)
        accepts = to_predicate(rest)
        async with aclosing(statement.stream(self._connection, parameters, at_once=1)) as pages:
            async for page in pages:
                found += await asyncio.to_thread(_matching, page, accepts)
                if len(found) >= limit:
                    break
        return found[:limit]

    async def page(self, selector: Selector, *, limit: int, after: int) -> list[Series]:
        """Return the same as `select`; cheaper if a good part of all series matches."""
        conditions, parameters, rest = split(selector)
        statement, accepts = next_of(conditions), to_predicate(rest)
        found: list[Series] = []
        page_size = _PROBED
        while True:
            parameters |= {"tenant": self._tenant_id, "after": after, "size": page_size}
            [(last, size, *page)] = await statement.fetch(self._connection, parameters)
            hits = await asyncio.to_thread(_matching, page, accepts)
            found += hits
            if len(found) >= limit or size < page_size:
                return found[:limit]
            if len(hits) * _GOOD_PART < size:
                others = await self.select(selector, limit=limit - len(found), after=last)
                return found + others
            after, page_size = last, PAGE

    async def _name(self, ids: Int64s) -> list[Series]:
        """Return series of this tenant by their ids, in that order; read those not cached."""
        requested: list[int] = ids.tolist()
        series = self._catalog.find(requested)
        missing = [series_id for series_id in requested if series_id not in series]
        if missing:
            parameters = {"ids": to_array_text(np.array(missing))}
            for page in await NAMED.fetch(self._connection, parameters):
                found = {one.id: one for one in to_series(page)}
                self._catalog.keep(found, len(page[-1]))
                series |= found
        return [series[series_id] for series_id in requested]

    async def count_labels(self) -> dict[str, int]:
        """Return every label name, including `__name__`, with the number of series that have it."""
        rows = await self._connection.execute(_COUNT_LABELS, {"tenant": self._tenant_id})
        return {name: count for name, count in rows}  # noqa: C416  # dict() cannot type rows

    async def count_values(self, label: str, *, limit: int) -> dict[str, int]:
        """Return at most `limit` values of a label, sorted, with the number of series of each."""
        statement = _COUNT_METRICS if label == METRIC_LABEL else _COUNT_VALUES
        parameters: dict[str, object] = {"tenant": self._tenant_id, "limit": limit}
        if statement is _COUNT_VALUES:
            parameters["label"] = label
        rows = await self._connection.execute(statement, parameters)
        return {value: count for value, count in rows}  # noqa: C416  # dict() cannot type rows

    async def _find(self, rows: Sequence[_Row]) -> dict[bytes, int]:
        found = await to_driver(self._connection).fetch(
            _FIND,
            self._tenant_id,
            to_array_text([shard for shard, _, _, _ in rows]),
            to_array_text([fingerprint.hex() for _, _, fingerprint, _ in rows]),
        )
        return {fingerprint.bytes: series_id for fingerprint, series_id in found}

    async def _create(self, rows: Sequence[_Row]) -> dict[bytes, int]:
        """Create series; return the ids of those that another process did not create first."""
        to_document = cache(_to_document)  # many names share their labels
        created = await to_driver(self._connection).fetch(
            _CREATE,
            self._tenant_id,
            to_array_text([shard for shard, _, _, _ in rows]),
            to_array_text([fingerprint.hex() for _, _, fingerprint, _ in rows]),
            "\n".join([name.metric for _, _, _, name in rows]),
            b"\n".join([to_document(name.labels) for _, _, _, name in rows]).decode(),
        )
        return {fingerprint.bytes: series_id for fingerprint, series_id in created}


async def list_all_ids(connection: AsyncConnection) -> Int64s:
    """Return the ids of all tenants' series in this snapshot, ascending."""
    sent: bytes | None = (await connection.execute(_ALL_IDS)).scalar_one()
    return from_joined_elements(sent or b"")


async def find_names(connection: AsyncConnection, ids: Sequence[int]) -> list[tuple[int, Series]]:
    """Return the series with these ids, of any tenant, as (tenant id, series)."""
    shards = [shard_of(series_id) for series_id in ids]
    rows = await connection.execute(_NAMES, {"ids": list(ids), "shards": shards})
    return [(row.tenant_id, Series(row.id, row.metric, json.loads(row.labels))) for row in rows]


def _to_rows(fingerprints: Iterable[bytes], names: Collection[SeriesName]) -> list[_Row]:
    """Return a row for each distinct name, sorted."""
    places = [name.place() for name in names]
    rows = zip(map(shard_of_place, places), places, fingerprints, names, strict=True)
    return sorted({row[2]: row for row in rows}.values())


def _to_document(labels: Labels) -> bytes:
    return to_json(dict(labels))


def _without(rows: Sequence[_Row], ids: Container[bytes]) -> list[_Row]:
    return [row for row in rows if row[2] not in ids]


def _matching(page: Sequence[Any], accepts: Predicate) -> list[Series]:
    return [one for one in to_series(page) if accepts(one.metric, one.labels)]

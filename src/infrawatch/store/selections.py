"""Selections as statements: which series conditions mean, and what series are called."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any

from pydantic_core import from_json

from infrawatch.model.labels import SHARDS
from infrawatch.store.copy import from_joined_elements
from infrawatch.store.known import Series
from infrawatch.store.statements import Statement

PAGE = 2_000
"""Of the longest label sets there may be, so many still fit into a string."""

_REMEMBERED = 64
"""Conditions, of which there are as many as selectors have shapes."""

_SENT_IDS = "substr(array_send(array_agg(id)), 21)"
_SENT = f"{_SENT_IDS}, array_agg(metric), '[' || string_agg(labels, ',') || ']'"
"""Series as one row, whose labels are one JSON document: one by one they take ten times as long."""


def to_series(page: Sequence[Any]) -> Iterator[Series]:
    """Read the last three columns of a row."""
    ids, metrics, labels = page
    if ids is None:
        return iter(())
    return starmap(
        Series, zip(from_joined_elements(ids).tolist(), metrics, from_json(labels), strict=True)
    )


@lru_cache(_REMEMBERED)
def next_of(conditions: str) -> Statement:
    """Where the next so many series end, whoever has them; how many they are; and those meant."""
    return Statement.of(f"""
WITH next AS MATERIALIZED (
    SELECT id, tenant_id, metric, labels FROM series WHERE id > :after ORDER BY id LIMIT :size
)
SELECT (SELECT max(id) FROM next), (SELECT count(*) FROM next), {_SENT}
FROM (
    SELECT id, metric, CAST(labels AS text) AS labels FROM next
    WHERE tenant_id = :tenant {conditions} ORDER BY id
) AS meant
""")


@lru_cache(_REMEMBERED)
def ids_of(conditions: str) -> Statement:
    """The ids of what conditions mean, in order, as one value."""
    return Statement.of(f"""
{_meant("id", conditions)}
SELECT {_SENT_IDS} FROM (SELECT id FROM meant ORDER BY id LIMIT :limit) AS selected
""")


@lru_cache(_REMEMBERED)
def named_of(conditions: str) -> Statement:
    """What conditions mean, a page of it in each row."""
    return Statement.of(f"""
{_meant("id, metric, labels", conditions)}
SELECT {_SENT}
FROM (
    SELECT id, metric, CAST(labels AS text) AS labels,
        (row_number() OVER (ORDER BY id) - 1) / {PAGE} AS page
    FROM meant ORDER BY id
) AS selected
GROUP BY page ORDER BY page
""")


def _meant(columns: str, conditions: str) -> str:
    """What is meant is looked up first.

    Before a LIMIT it does not know, PostgreSQL would rather look at each series of all, in order
    of their ids.
    """
    materialized = "MATERIALIZED" if conditions else "NOT MATERIALIZED"
    return f"""
WITH meant AS {materialized} (
    SELECT {columns} FROM series WHERE tenant_id = :tenant AND id > :after {conditions}
)
"""


# An index descent for each.
NAMED = Statement.of(f"""
SELECT {_SENT}
FROM (
    SELECT s.id, s.metric, CAST(s.labels AS text) AS labels, (wanted.place - 1) / {PAGE} AS page
    FROM unnest(CAST(CAST(:ids AS text) AS bigint[])) WITH ORDINALITY AS wanted (id, place)
    JOIN series s ON s.id = wanted.id AND s.shard = CAST(wanted.id & {SHARDS - 1} AS smallint)
) AS selected
GROUP BY page
""")
"""What the series with these ids are called, a page in each row."""

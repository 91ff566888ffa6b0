"""Keep the journal as bits instead of arrays (docs/decisions/0008).

Locks: `journal`, whose minutes of samples are rewritten; senders are told to come back meanwhile.
Undo: rewrites it the other way round.
"""

import runpy
from pathlib import Path
from typing import Any

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _revision(name: str) -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).with_name(name)))


STORE = _revision("0001_create_the_store.py")
READERS = (
    _revision("0002_create_the_samples_view.py"),
    _revision("0003_create_rollups.py"),
)
SLOTS, SLOT_S = range(STORE["SLOTS"]), STORE["SLOT_S"]

# A row has what a group says of a shard, or some of it, from sample `first` on: 64 bits a sample in
# each of three columns. Bits travel by memcpy, elements of arrays one by one. SQL cannot make a NaN
# of given bits, and a few more: where there is one, `odd` has all values of the row once more.
JOURNAL = f"""
CREATE TABLE journal (
    writer bigint NOT NULL,
    seq bigint NOT NULL,
    arrived_at timestamptz NOT NULL,
    min_at timestamptz NOT NULL,
    max_at timestamptz NOT NULL,
    first integer NOT NULL,
    samples integer NOT NULL,
    shard smallint NOT NULL,
    slot smallint NOT NULL
        DEFAULT (extract(epoch FROM clock_timestamp())::bigint / {SLOT_S} % {len(SLOTS)})::smallint,
    series_ids bit varying NOT NULL,
    times bit varying NOT NULL,
    "values" bit varying NOT NULL,
    odd double precision[]
) PARTITION BY LIST (slot)
"""

# A row always fits a page: storing out of line, or compressing, costs more than all the rest.
STORAGE = """
ALTER TABLE journal
    ALTER series_ids SET STORAGE PLAIN,
    ALTER times SET STORAGE PLAIN,
    ALTER "values" SET STORAGE PLAIN,
    ALTER odd SET STORAGE EXTERNAL
"""
ROW_SAMPLES = 320

# Of sample `i` of a row.
AT = """
    timestamptz '2000-01-01 00:00Z'
        + substring(times FROM 64 * i + 1 FOR 64)::bigint * interval '1 microsecond'
"""
VALUE = """
    CASE
        WHEN odd IS NOT NULL THEN odd[i + 1]
        WHEN bits << 1 = 0 THEN sign * 0
        ELSE sign * ((bits & (1::bigint << 52) - 1) | (1::bigint << 52))::float8
            * 2::float8 ^ ((bits >> 52 & 2047) - 1075)
    END
"""
PARTS = """
CROSS JOIN LATERAL (SELECT substring("values" FROM 64 * i + 1 FOR 64)::bigint AS bits) AS packed
CROSS JOIN LATERAL (SELECT CASE WHEN bits < 0 THEN -1::float8 ELSE 1 END AS sign) AS signed
"""

JOURNAL_SAMPLES = f"""
-- The samples of one row of the journal, given its columns, in order of arrival from 0.
--
-- Each column has 64 bits a sample: of a bigint, of the microseconds since 2000, of a double. Those
-- are put together here: sign, 52 bits of fraction below a one, exponent. All of it is exact, but
-- for what is no number or a tiny one; then `odd` has the values as they are.
--
-- PostgreSQL inlines it, so that a condition on series_id is looked at before anything else.
CREATE FUNCTION journal_samples(
    samples integer, series_ids bit varying, times bit varying, "values" bit varying, odd float8[]
) RETURNS TABLE (i integer, series_id bigint, at timestamptz, value float8)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100 AS $$
SELECT i, substring(series_ids FROM 64 * i + 1 FOR 64)::bigint,
{AT}, {VALUE}
FROM generate_series(0, samples - 1) AS i
{PARTS}
$$
"""
OF_BITS = """
    (
        SELECT j.first + p.i AS position, p.series_id, p.at, p.value
        FROM journal_samples(j.samples, j.series_ids, j.times, j."values", j.odd) AS p
    ) AS u
"""


def bits(send: str) -> str:
    return f"('x' || encode(string_agg({send}, '' ORDER BY u.i), 'hex'))::bit varying"


# SQL cannot make these of their bits.
ODD = """
CASE WHEN bool_or(
        u.value IN ('NaN', 'Infinity', '-Infinity')
        OR u.value <> 0 AND abs(u.value) < 2::float8 ^ -970
    ) THEN array_agg(u.value ORDER BY u.i) END
"""
TO_BITS = f"""
INSERT INTO journal (
    slot, shard, writer, seq, arrived_at, min_at, max_at, first, samples,
    series_ids, times, "values", odd
)
SELECT j.slot, j.shard, j.writer, j.seq, j.arrived_at, min(u.at), max(u.at), min(u.i), count(*),
    {bits("int8send(u.series_id)")}, {bits("timestamptz_send(u.at)")},
    {bits("float8send(u.value)")}, {ODD}
FROM journal_before j
CROSS JOIN LATERAL (
    SELECT (position - 1)::integer AS i, series_id, at, value
    FROM unnest(j.series_ids, j.times, j."values") WITH ORDINALITY
        AS samples (series_id, at, value, position)
) AS u
GROUP BY j.slot, j.shard, j.writer, j.seq, j.arrived_at, u.i / {ROW_SAMPLES}
"""

TO_ARRAYS = f"""
INSERT INTO journal (
    slot, shard, writer, seq, arrived_at, min_at, max_at, samples, series_ids, times, "values"
)
SELECT j.slot, j.shard, j.writer, j.seq, j.arrived_at, min(u.at), max(u.at), count(*),
    array_agg(u.series_id ORDER BY u.position), array_agg(u.at ORDER BY u.position),
    array_agg(u.value ORDER BY u.position)
FROM journal_before j CROSS JOIN LATERAL {OF_BITS}
GROUP BY j.slot, j.shard, j.writer, j.seq, j.arrived_at
"""


def _rewrite(table: str, storage: str, fill: str) -> None:
    """Make a journal of another kind with the same samples; the old one is `journal_before`."""
    op.execute("ALTER TABLE journal RENAME TO journal_before")
    op.execute("DROP INDEX journal_shard_arrived")
    for slot in SLOTS:
        op.execute(f"ALTER TABLE journal_{slot} RENAME TO journal_before_{slot}")
    op.execute(table)
    op.execute(storage)
    op.execute("CREATE INDEX journal_shard_arrived ON journal (shard, arrived_at)")
    for slot in SLOTS:
        op.execute(STORE["JOURNAL_SLOT"].format(slot=slot))
    op.execute(fill)


def _execute(statements: list[str]) -> None:
    for statement in statements:
        op.execute(statement)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(JOURNAL_SAMPLES)
    _rewrite(JOURNAL, STORAGE, TO_BITS)
    for reader in READERS:
        _execute(reader["views"](OF_BITS))
    op.execute("DROP TABLE journal_before")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _rewrite(STORE["JOURNAL"], STORE["JOURNAL_STORAGE"], TO_ARRAYS)
    for reader in READERS:
        _execute(reader["views"](reader["OF_ARRAYS"]))
    op.execute("DROP TABLE journal_before")
    op.execute("DROP FUNCTION journal_samples")

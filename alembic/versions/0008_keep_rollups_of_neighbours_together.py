"""Keep rollups of several series in a row (docs/decisions/0010).

Locks: both tables of rollups, which are rewritten. What was there before stays as long as it was,
but for what is merged again.
Undo: rewrites them the other way round.
"""

import runpy
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _revision(name: str) -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).with_name(name)))


BEFORE = _revision("0003_create_rollups.py")
JOURNAL = _revision("0007_keep_the_journal_as_bits.py")["OF_BITS"]

ROWS = {"5m": ("5 minutes", "2 hours"), "1h": ("1 hour", "1 day")}
BLOCK_BITS = 15

# A row has the 24 buckets that lie in its time, or those there are of them, of several series: of
# those of a block, that is of one shard and with the same upper bits in their ids.
ROLLUPS = """
CREATE TABLE rollups_{name} (
    block bigint NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    start_at timestamptz NOT NULL,
    shard smallint NOT NULL,
    facts bigint[] NOT NULL,
    words bigint[],
    raw double precision[],
    PRIMARY KEY (shard, block, start_at, first_id, last_id)
) PARTITION BY RANGE (start_at)
"""

# A row always fits a page, and SQL takes single elements out of the arrays.
STORAGE = """
ALTER TABLE rollups_{name} ALTER facts SET STORAGE PLAIN, ALTER words SET STORAGE PLAIN,
    ALTER raw SET STORAGE PLAIN
"""

# Of each series: its id; which buckets there are (24 bits), exponent + 1 (5), the bits of n, p, q,
# r and s (6 each); where its words begin, or its raw numbers (above 32 bits), and the least count;
# factor; base; slope.
_PACKED = ("n", "p", "q", "r", "s")
_WIDTHS = ", ".join(
    f"(facts[first + 2] >> {29 + 6 * place} & 63)::integer AS {name}_bits"
    for place, name in enumerate(_PACKED)
)
_LANES = ", ".join(f"64 / nullif({name}_bits, 0) AS {name}_lanes" for name in _PACKED)
_WORDS = [f"coalesce((buckets + {name}_lanes - 1) / {name}_lanes, 0)" for name in _PACKED]
_STARTS = ", ".join(
    f"{' + '.join(['start', *_WORDS[:place]])} AS {name}_start"
    for place, name in enumerate(_PACKED)
)
_NUMBERS = ", ".join(
    f"coalesce(words[{name}_start + i / {name}_lanes + 1] >> i % {name}_lanes * {name}_bits"
    f" & (1::bigint << {name}_bits) - 1, 0) AS {name}"
    for name in _PACKED
)

ROLLUP_BUCKETS = f"""
-- The buckets of one row, given its columns and how long a bucket is, series by series in order of
-- time. Of the i-th bucket that a series has:
--
--   last  = base + factor * (slope * i + p)      min = last - factor * q
--   count = least_count + n                      max = last + factor * r
--   sum   = count * min + factor * s
--
-- all but count divided by 10 ^ exponent; with an exponent of -1 the five are raw[5 * i + …].
-- PostgreSQL inlines it, so that a condition on series_id is looked at before anything else; each
-- OFFSET 0 keeps it from working out again what is below.
CREATE FUNCTION rollup_buckets(
    start_at timestamptz, width interval, facts bigint[], words bigint[], raw float8[]
) RETURNS TABLE (
    series_id bigint, at timestamptz, count float8, sum float8, min float8, max float8, last float8
) LANGUAGE sql STABLE PARALLEL SAFE ROWS 100 AS $$
SELECT facts[first + 1], start_at + place * width,
    CASE WHEN is_raw THEN raw[start + 5 * i + 1] ELSE counted END,
    CASE WHEN is_raw THEN raw[start + 5 * i + 2]
        ELSE (counted * (latest - factor * q) + factor * s)::float8 / power END,
    CASE WHEN is_raw THEN raw[start + 5 * i + 3] ELSE (latest - factor * q)::float8 / power END,
    CASE WHEN is_raw THEN raw[start + 5 * i + 4] ELSE (latest + factor * r)::float8 / power END,
    CASE WHEN is_raw THEN raw[start + 5 * i + 5] ELSE latest::float8 / power END
FROM generate_series(0, cardinality(facts) - 6, 6) AS first
CROSS JOIN LATERAL (
    SELECT *, {_STARTS}
    FROM (
        SELECT *, {_LANES}
        FROM (
            SELECT {_WIDTHS}, bit_count((facts[first + 2] & 16777215)::integer::bit(24))::integer
                    AS buckets,
                (facts[first + 3] >> 32)::integer AS start,
                facts[first + 3] & 4294967295 AS least_count, facts[first + 4] AS factor,
                facts[first + 5] AS base, facts[first + 6] AS slope,
                facts[first + 2] >> 24 & 31 = 0 AS is_raw,
                10.0::float8 ^ greatest((facts[first + 2] >> 24 & 31) - 1, 0) AS power
            OFFSET 0
        ) AS told
        OFFSET 0
    ) AS sized
    OFFSET 0
) AS series
CROSS JOIN LATERAL (
    SELECT place, (row_number() OVER () - 1)::integer AS i FROM generate_series(0, 23) AS place
    WHERE facts[first + 2] >> place & 1 = 1
) AS there
CROSS JOIN LATERAL (
    SELECT base + factor * (slope * i + p) AS latest, least_count + n AS counted, q, r, s
    FROM (SELECT {_NUMBERS} OFFSET 0) AS packed
    OFFSET 0
) AS bucket
$$
"""

# One index descent for each series and row.
OF_BLOCKS = f"""
    FROM rollups_{{name}} k
    CROSS JOIN LATERAL rollup_buckets(
        k.start_at, interval '{{width}}', k.facts, k.words, k.raw) b
    WHERE k.shard = s.shard AND k.block = s.id >> {BLOCK_BITS}
        AND k.first_id <= s.id AND k.last_id >= s.id AND b.series_id = s.id
"""

# SQL packs nothing: it leaves numbers as they are, until a merge writes their row anew.
TO_BLOCKS = f"""
INSERT INTO rollups_{{name}} (block, first_id, last_id, start_at, shard, facts, raw)
SELECT series_id >> {BLOCK_BITS}, series_id, series_id, start_at, shard,
    ARRAY[series_id, bit_or(DISTINCT 1::bigint << place::integer), 0, 1, 0, 0],
    array_agg(value ORDER BY place, function)
FROM (
    SELECT k.shard, k.series_id, f.function, f.value,
        date_bin(interval '{{row}}', b.at, timestamptz '1970-01-01 00:00Z') AS start_at,
        (extract(epoch FROM b.at) / extract(epoch FROM interval '{{width}}'))::bigint % 24 AS place
    FROM rollups_{{name}}_before k
    CROSS JOIN LATERAL rollup_buckets(
        k.start_at, k.count, k.step_us, k.tick_us, k.shift_us, k.late_bits, k.time_bits, k.times,
        k.facts, k.words, k.raw) b
    CROSS JOIN LATERAL (
        VALUES (1, b.count), (2, b.sum), (3, b.min), (4, b.max), (5, b.last)
    ) AS f (function, value)
) AS told
GROUP BY shard, series_id, start_at
"""

# A row for each stretch of neighbours.
_AS_THEY_ARE = ", ".join(f"-1, 0, 0, 0, 0, {place} * count(*)" for place in range(5))
TO_SERIES = f"""
INSERT INTO rollups_{{name}} (
    series_id, start_at, end_at, step_us, tick_us, shift_us, count, shard, late_bits, time_bits,
    facts, raw
)
SELECT series_id, min(at), max(at), extract(epoch FROM interval '{{width}}') * 1000000, 0, 0,
    count(*), shard, 0, 0, ARRAY[{_AS_THEY_ARE}]::bigint[],
    array_agg(count ORDER BY at) || array_agg(sum ORDER BY at) || array_agg(min ORDER BY at)
        || array_agg(max ORDER BY at) || array_agg(last ORDER BY at)
FROM (
    SELECT k.shard, k.start_at, b.*,
        b.at - row_number() OVER (PARTITION BY k.start_at, b.series_id ORDER BY b.at)
            * interval '{{width}}' AS stretch
    FROM rollups_{{name}}_before k
    CROSS JOIN LATERAL rollup_buckets(
        k.start_at, interval '{{width}}', k.facts, k.words, k.raw) b
) AS told
GROUP BY shard, series_id, start_at, stretch
"""

PARTITIONS = sa.text("""
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST(:table AS regclass)
""")


def _rewrite(name: str, table: str, storage: str, fill: str) -> None:
    """Make a table of another kind with the same buckets; the old one is `…_before`."""
    whole = f"rollups_{name}"
    partitions = op.get_bind().execute(PARTITIONS, {"table": whole}).all()
    op.execute(f"ALTER TABLE {whole} RENAME TO {whole}_before")
    op.execute(table.format(name=name))
    op.execute(storage.format(name=name))
    for part, bounds in partitions:
        op.execute(f"ALTER TABLE {part} RENAME TO {part}_before")
        op.execute(f"CREATE TABLE {part} PARTITION OF {whole} {bounds}")
    width, row = ROWS[name]
    op.execute(fill.format(name=name, width=width, row=row))


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(ROLLUP_BUCKETS)
    for name in ROWS:
        _rewrite(name, ROLLUPS, STORAGE, TO_BLOCKS)
    for statement in BEFORE["views"](JOURNAL, OF_BLOCKS, ROWS):
        op.execute(statement)
    for name in ROWS:
        op.execute(f"DROP TABLE rollups_{name}_before")
    op.execute(BEFORE["DROP_BUCKETS"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(BEFORE["ROLLUP_BUCKETS"])
    for name in ROWS:
        _rewrite(name, BEFORE["ROLLUPS"], BEFORE["STORAGE"], TO_SERIES)
    for statement in BEFORE["views"](JOURNAL):
        op.execute(statement)
    for name in ROWS:
        op.execute(f"DROP TABLE rollups_{name}_before")
    op.execute("DROP FUNCTION rollup_buckets(timestamptz, interval, bigint[], bigint[], float8[])")

"""Keep the head and rollups of several series in a row (docs/decisions/0010, 0013).

Locks: the head and both tables of rollups, which are rewritten. Rollups that were there stay as
long as they are, but for what is merged again.
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


STORE = _revision("0001_create_the_store.py")
SAMPLES = _revision("0002_create_the_samples_view.py")
BEFORE = _revision("0003_create_rollups.py")
JOURNAL = _revision("0007_keep_the_journal_as_bits.py")

ROWS = {"5m": ("5 minutes", "2 hours"), "1h": ("1 hour", "1 day")}
BLOCK_BITS = 15

# A row has samples of one generation and window, of several series of a block, that is of one shard
# and with the same upper bits in their ids. `runs` has 256 bits for each series: its id; where its
# samples begin in the row (32 bits), and how many they are (32); the time of the first; how far
# apart they are, or -1 less where their times begin in `times`, if that differs. `times`, `values`
# and `odd` are as in the journal.
HEAD = """
CREATE TABLE chunks_head (
    generation bigint NOT NULL,
    block bigint NOT NULL,
    window_at timestamptz NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    samples integer NOT NULL,
    shard smallint NOT NULL,
    runs bit varying NOT NULL,
    times bit varying NOT NULL,
    "values" bit varying NOT NULL,
    odd double precision[]
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_limit = 2000, autovacuum_vacuum_insert_scale_factor = 0.5)
"""
HEAD_INDEX = """
CREATE INDEX chunks_head_block ON chunks_head (shard, block, window_at, first_id, last_id)
"""

# A row always fits a page.
HEAD_STORAGE = """
ALTER TABLE chunks_head
    ALTER runs SET STORAGE PLAIN,
    ALTER times SET STORAGE PLAIN,
    ALTER "values" SET STORAGE PLAIN,
    ALTER odd SET STORAGE EXTERNAL
"""

_RUN = """
FROM generate_series(0, length(runs) / 256 - 1) AS r
CROSS JOIN LATERAL (
    SELECT substring(runs FROM 256 * r + 65 FOR 32)::integer AS first,
        substring(runs FROM 256 * r + 97 FOR 32)::integer AS count,
        substring(runs FROM 256 * r + 129 FOR 64)::bigint AS start_us,
        substring(runs FROM 256 * r + 193 FOR 64)::bigint AS step_us
) AS run
"""
_AT = """
    timestamptz '2000-01-01 00:00Z' + interval '1 microsecond' * CASE
        WHEN step_us >= 0 THEN start_us + step_us * {place}
        ELSE substring(times FROM 64 * ({place} - 1 - step_us)::integer + 1 FOR 64)::bigint
    END
"""
HEAD_SAMPLES = f"""
-- The samples of one row of the head, given its columns, by series and in order of time.
-- PostgreSQL inlines it, so that a condition on series_id is looked at before anything else.
CREATE FUNCTION head_samples(
    runs bit varying, times bit varying, "values" bit varying, odd float8[]
) RETURNS TABLE (series_id bigint, at timestamptz, value float8)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100 AS $$
SELECT substring(runs FROM 256 * r + 1 FOR 64)::bigint, {_AT.format(place="(i - first)")},
    {JOURNAL["VALUE"]}
{_RUN}
CROSS JOIN LATERAL generate_series(first, first + count - 1) AS i
{JOURNAL["PARTS"]}
$$
"""
HEAD_RUNS = f"""
-- Which series a row of the head has samples of, and from when to when.
CREATE FUNCTION head_runs(runs bit varying, times bit varying)
RETURNS TABLE (series_id bigint, start_at timestamptz, end_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10 AS $$
SELECT substring(runs FROM 256 * r + 1 FOR 64)::bigint,
    timestamptz '2000-01-01 00:00Z' + interval '1 microsecond' * start_us,
    {_AT.format(place="(count - 1)")}
{_RUN}
$$
"""

_OF_SERIES = f"""
    WHERE k.shard = s.shard AND k.block = s.id >> {BLOCK_BITS}
        AND k.first_id <= s.id AND k.last_id >= s.id {{window_span}}
"""
HEAD_WINDOWS = f"""
    SELECT k.window_at AS at
    FROM chunks_head k CROSS JOIN LATERAL head_runs(k.runs, k.times) AS c
    {_OF_SERIES} AND c.series_id = s.id
"""
OF_HEAD = f"""
    SELECT c.at, c.value, k.generation, NULL::timestamptz AS arrived_at,
        NULL::bigint AS writer, NULL::bigint AS seq, NULL::bigint AS position
    FROM chunks_head k
    CROSS JOIN LATERAL head_samples(k.runs, k.times, k."values", k.odd) AS c
    {_OF_SERIES} AND c.series_id = s.id
"""

# A row for each chunk.
TO_HEAD = f"""
INSERT INTO chunks_head (
    generation, block, window_at, first_id, last_id, start_at, end_at, samples, shard,
    runs, times, "values", odd
)
SELECT k.generation, k.series_id >> {BLOCK_BITS},
    date_bin(interval '2 hours', k.start_at, timestamptz '1970-01-01 00:00Z'),
    k.series_id, k.series_id, k.start_at, k.end_at, k.count, k.shard,
    ('x' || encode(
        int8send(k.series_id) || int8send(k.count) || timestamptz_send(k.start_at) || int8send(-1),
        'hex'))::bit varying,
    {JOURNAL["bits"]("timestamptz_send(u.at)")}, {JOURNAL["bits"]("float8send(u.value)")},
    {JOURNAL["ODD"]}
FROM chunks_head_before k
CROSS JOIN LATERAL (
    SELECT c.at, c.value, row_number() OVER () AS i
    FROM chunk_samples(
        k.start_at, k.count, k.step_us, k.tick_us, k.shift_us, k.late_bits, k.time_bits, k.times,
        k.exponent, k.factor, k.base, k.slope, k.delta_bits, k.deltas, k.raw) AS c
) AS u
GROUP BY k.shard, k.series_id, k.start_at, k.generation
"""

# SQL packs nothing: each time is told as so many microseconds after the first, values as they are.
TO_CHUNKS = """
INSERT INTO chunks_head (
    generation, series_id, start_at, end_at, step_us, base, slope, factor, count, shard, exponent,
    delta_bits, late_bits, time_bits, tick_us, shift_us, times, raw
)
SELECT generation, series_id, start_at, max(at), 0, 0, 0, 0, count(*), shard, -1, 0, 62, 62, 1, 0,
    array_agg((extract(epoch FROM at - start_at) * 1000000)::bigint ORDER BY at),
    array_agg(value ORDER BY at)
FROM (
    SELECT k.generation, k.shard, c.series_id, r.start_at, c.at, c.value
    FROM chunks_head_before k
    CROSS JOIN LATERAL head_samples(k.runs, k.times, k."values", k.odd) AS c
    JOIN LATERAL head_runs(k.runs, k.times) AS r USING (series_id)
) AS told
GROUP BY generation, shard, series_id, start_at
"""

# A row has the 24 buckets that lie in its time, or those there are of them, of the series of
# a block as well.
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
    """Make a table of rollups of another kind with the same buckets; the old one is `…_before`."""
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


def _execute(*statements: str) -> None:
    for statement in statements:
        op.execute(statement)


def _drop_before() -> None:
    for table in ("chunks_head", *(f"rollups_{name}" for name in ROWS)):
        op.execute(f"DROP TABLE {table}_before")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE chunks_head RENAME TO chunks_head_before")
    _execute(HEAD, HEAD_INDEX, HEAD_STORAGE, HEAD_SAMPLES, HEAD_RUNS, TO_HEAD, ROLLUP_BUCKETS)
    for name in ROWS:
        _rewrite(name, ROLLUPS, STORAGE, TO_BLOCKS)
    _execute(*SAMPLES["views"](JOURNAL["OF_BITS"], OF_HEAD))
    head = (HEAD_WINDOWS, OF_HEAD)
    _execute(*BEFORE["views"](JOURNAL["OF_BITS"], head, OF_BLOCKS, ROWS))
    _drop_before()
    op.execute(BEFORE["DROP_BUCKETS"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE chunks_head RENAME TO chunks_head_before")
    _execute(STORE["CHUNKS_HEAD"], STORE["CHUNK_STORAGE"].format(table="chunks_head"), TO_CHUNKS)
    op.execute(BEFORE["ROLLUP_BUCKETS"])
    for name in ROWS:
        _rewrite(name, BEFORE["ROLLUPS"], BEFORE["STORAGE"], TO_SERIES)
    _execute(*SAMPLES["views"](JOURNAL["OF_BITS"]), *BEFORE["views"](JOURNAL["OF_BITS"]))
    _drop_before()
    for function in (
        "rollup_buckets(timestamptz, interval, bigint[], bigint[], float8[])",
        "head_samples",
        "head_runs",
    ):
        op.execute(f"DROP FUNCTION {function}")

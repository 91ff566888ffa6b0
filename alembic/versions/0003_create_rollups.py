"""Create `rollups_5m` and `rollups_1h`, and the views that tell what is in them.

Locks: `chunks` and `chunks_head`, while what was merged before moves to be merged again.
Undo: drop the views. The tables stay and are found again: rollups outlive their samples.
"""

from collections.abc import Mapping

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BUCKETS = {"5m": ("5 minutes", "12 hours"), "1h": ("1 hour", "1 day")}
"""Of each resolution, how long a bucket is, and how much a row holds."""

# A row holds buckets of one series: of half a day or of a day, so that it always fits a page.
# `facts` has six numbers for each function: exponent, factor, base, slope and delta_bits as a chunk
# has them, and how many numbers of `words` (or `raw`) belong to the functions before it.
ROLLUPS = """
CREATE TABLE IF NOT EXISTS rollups_{name} (
    series_id bigint NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    step_us bigint NOT NULL,
    tick_us bigint NOT NULL,
    shift_us bigint NOT NULL,
    count integer NOT NULL,
    shard smallint NOT NULL,
    late_bits smallint NOT NULL,
    time_bits smallint NOT NULL,
    times bigint[],
    facts bigint[] NOT NULL,
    words bigint[],
    raw double precision[],
    PRIMARY KEY (shard, series_id, start_at)
) PARTITION BY RANGE (start_at)
"""

STORAGE = """
ALTER TABLE rollups_{name} ALTER times SET STORAGE PLAIN, ALTER facts SET STORAGE PLAIN,
    ALTER words SET STORAGE PLAIN, ALTER raw SET STORAGE PLAIN
"""

FUNCTION = """
chunk_samples(
        start_at, count, step_us, tick_us, shift_us, late_bits, nullif(time_bits, 0), times,
        facts[{first} + 1]::smallint, facts[{first} + 2], facts[{first} + 3], facts[{first} + 4],
        facts[{first} + 5]::smallint, words[facts[{first} + 6] + 1 :],
        CASE WHEN facts[{first} + 1] = -1 THEN raw[facts[{first} + 6] + 1 :] END)
"""

ROLLUP_BUCKETS = f"""
-- The buckets of one row, given its columns, in order of time.
CREATE FUNCTION rollup_buckets(
    start_at timestamptz, count integer, step_us bigint,
    tick_us bigint, shift_us bigint, late_bits smallint, time_bits smallint, times bigint[],
    facts bigint[], words bigint[], raw float8[]
) RETURNS TABLE (
    at timestamptz, count float8, sum float8, min float8, max float8, last float8
) LANGUAGE sql STABLE PARALLEL SAFE ROWS 100 AS $$
SELECT c.at, c.value, s.value, l.value, g.value, e.value
FROM (SELECT at, value, row_number() OVER () AS i FROM {FUNCTION.format(first=0)}) AS c
JOIN (SELECT value, row_number() OVER () AS i FROM {FUNCTION.format(first=6)}) AS s USING (i)
JOIN (SELECT value, row_number() OVER () AS i FROM {FUNCTION.format(first=12)}) AS l USING (i)
JOIN (SELECT value, row_number() OVER () AS i FROM {FUNCTION.format(first=18)}) AS g USING (i)
JOIN (SELECT value, row_number() OVER () AS i FROM {FUNCTION.format(first=24)}) AS e USING (i)
$$
"""

DROP_BUCKETS = """
DROP FUNCTION rollup_buckets(
    timestamptz, integer, bigint, bigint, bigint, smallint, smallint, bigint[],
    bigint[], bigint[], float8[])
"""

SAMPLES_OF = """
        SELECT c.at, c.value, {generation} AS generation, NULL::timestamptz AS arrived_at,
            NULL::bigint AS writer, NULL::bigint AS seq, NULL::bigint AS position
        FROM {table} k
        CROSS JOIN LATERAL chunk_samples(
            k.start_at, k.count, k.step_us, k.tick_us, k.shift_us, k.late_bits, k.time_bits,
            k.times, k.exponent, k.factor, k.base, k.slope, k.delta_bits, k.deltas, k.raw) c
        WHERE k.shard = s.shard AND k.series_id = s.id {{chunk_span}}"""

JOURNAL = """
        FROM shards h
        JOIN journal j ON j.shard = h.shard AND j.arrived_at >= h.compacted_until
        CROSS JOIN LATERAL {journal}
        WHERE h.shard = s.shard AND u.series_id = s.id {journal_span}"""

WINDOW = "date_bin(interval '2 hours', {at}, timestamptz '1970-01-01 00:00Z')"

# What a merge has rolled up, but for windows in which something has arrived since, or which are not
# closed yet: those are rolled up here, from their samples. As `samples`, it finds one series after
# the other by its primary key. A stale marker is no sample; NaN is the greatest for max, but not
# the least for min.
BODY = f"""
SELECT s.metric, s.labels, s.id AS series_id, buckets.at, buckets.count::bigint AS count,
    buckets.sum, buckets.min, buckets.max, buckets.last
FROM series s
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(arrived.at), '{{{{}}}}') AS windows
    FROM (
        {{head_windows}}
        UNION
        SELECT {WINDOW.format(at="u.at")} {JOURNAL}
    ) AS arrived
) AS open
CROSS JOIN LATERAL (
    SELECT b.at, b.count, b.sum, b.min, b.max, b.last
    {{rolled}} {{row_span}}
        AND {WINDOW.format(at="b.at")} <> ALL (open.windows)
    UNION ALL
    SELECT date_bin(interval '{{width}}', merged.at, timestamptz '1970-01-01 00:00Z'), count(*),
        sum(merged.value),
        CASE WHEN bool_or(merged.value = 'NaN') THEN 'NaN' ELSE min(merged.value) END,
        max(merged.value), (array_agg(merged.value ORDER BY merged.at DESC))[1]
    FROM (
        SELECT DISTINCT ON (every.at) every.at, every.value
        FROM (
        {SAMPLES_OF.format(table="chunks", generation="NULL::bigint")}
            AND {WINDOW.format(at="k.start_at")} = ANY (open.windows)
            AND k.start_at >= (SELECT min(w.at) FROM unnest(open.windows) AS w (at))
        UNION ALL
        {{head}}
        UNION ALL
        SELECT u.at, u.value, NULL, j.arrived_at, j.writer, j.seq, u.position {JOURNAL}
        ) AS every
        ORDER BY every.at, every.arrived_at DESC NULLS LAST, every.writer DESC, every.seq DESC,
            every.position DESC, every.generation DESC NULLS LAST
    ) AS merged
    WHERE float8send(merged.value) <> '\\x7ff0000000000002'
    GROUP BY 1
) AS buckets
{{bucket_span}}
"""

# How to find the rows of a series and take them apart, until they are kept in another way.
HEAD_WINDOWS = f"""
        SELECT {WINDOW.format(at="k.start_at")} AS at FROM chunks_head k
        WHERE k.shard = s.shard AND k.series_id = s.id {{chunk_span}}
"""
OF_CHUNKS = SAMPLES_OF.format(table="chunks_head", generation="k.generation")
OF_SERIES = """
    FROM rollups_{name} k
    CROSS JOIN LATERAL rollup_buckets(
        k.start_at, k.count, k.step_us, k.tick_us, k.shift_us, k.late_bits, k.time_bits, k.times,
        k.facts, k.words, k.raw) b
    WHERE k.shard = s.shard AND k.series_id = s.id
"""

VIEW = "CREATE OR REPLACE VIEW rollup_{name} AS " + BODY
EVERYTHING = {"row_span": "", "chunk_span": "", "journal_span": "", "bucket_span": ""}

# The same with a span in which buckets begin: the last one ends up to its width later.
BETWEEN = f"""
CREATE OR REPLACE FUNCTION rollup_{{name}}_between(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (metric text, labels jsonb, series_id bigint, at timestamptz, count bigint,
    sum double precision, min double precision, max double precision, last double precision)
LANGUAGE sql STABLE AS $$
{BODY}
$$
"""
SPAN = {
    "row_span": "AND k.start_at > from_at - interval '{row}' AND k.start_at < to_at",
    "chunk_span": "AND k.start_at > from_at - interval '2 hours'"
    " AND k.start_at < to_at + interval '{width}'",
    "journal_span": "AND j.max_at >= from_at AND j.min_at < to_at + interval '{width}'",
    "bucket_span": "WHERE buckets.at >= from_at AND buckets.at < to_at",
}


# What was merged without rollups becomes open windows again, beneath all that came since, so that
# the next merge rolls it up.
MERGE_AGAIN = (
    "LOCK TABLE shards, chunks, chunks_head IN ACCESS EXCLUSIVE MODE",
    "INSERT INTO chunks_head SELECT 0, k.* FROM chunks k",
    "TRUNCATE chunks",
    "UPDATE shards SET merged_until = 'epoch'",
)


OF_ARRAYS = """
    unnest(j.series_ids, j.times, j."values") WITH ORDINALITY AS u (series_id, at, value, position)
"""


def views(
    journal: str,
    head: tuple[str, str] = (HEAD_WINDOWS, OF_CHUNKS),
    rolled: str = OF_SERIES,
    rows: Mapping[str, tuple[str, str]] = BUCKETS,
) -> list[str]:
    """Create or replace the views.

    `journal` says how to get the samples `u` of one of its rows `j`; `head` tells the windows and
    the samples of a series `s` in the head, `rolled` the buckets `b` of its rows `k`, which are as
    long as `rows` say.
    """
    statements: list[str] = []
    for name, (width, row) in rows.items():
        of = {"name": name, "width": width, "journal": journal}
        of["rolled"] = rolled.format(**of)
        spanned = {key: condition.format(width=width, row=row) for key, condition in SPAN.items()}
        for pattern, span in ((VIEW, EVERYTHING), (BETWEEN, spanned)):
            windows, samples = (_told(one, span) for one in head)
            statements.append(pattern.format(**of, **span, head_windows=windows, head=samples))
    return statements


def _told(head: str, span: Mapping[str, str]) -> str:
    window_span = span["chunk_span"].replace("start_at", "window_at")
    return head.format(**span, window_span=window_span)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in MERGE_AGAIN:
        op.execute(statement)
    op.execute(ROLLUP_BUCKETS)
    for name in BUCKETS:
        op.execute(ROLLUPS.format(name=name))
        op.execute(STORAGE.format(name=name))
    for statement in views(OF_ARRAYS):
        op.execute(statement)


def downgrade() -> None:
    for name in BUCKETS:
        op.execute(f"DROP FUNCTION rollup_{name}_between(timestamptz, timestamptz)")
    op.execute("DROP VIEW rollup_5m, rollup_1h")
    op.execute(DROP_BUCKETS)

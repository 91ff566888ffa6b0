"""Create `samples`, `samples_between` and `chunk_samples`, for people with SQL.

Locks: none, all are new.
Undo: drop them; they hold no data.
"""

from collections.abc import Mapping

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SAMPLES_OF = """
    SELECT c.at, c.value, {generation} AS generation, NULL::timestamptz AS arrived_at,
        NULL::bigint AS writer, NULL::bigint AS seq, NULL::bigint AS position
    FROM {table} k
    CROSS JOIN LATERAL chunk_samples(
        k.start_at, k.count, k.step_us, k.tick_us, k.shift_us, k.late_bits, k.time_bits, k.times,
        k.exponent, k.factor, k.base, k.slope, k.delta_bits, k.deltas, k.raw) c
    WHERE k.shard = s.shard AND k.series_id = s.id {{chunk_span}}
"""

# Conditions on metric, labels and series_id reach the primary key of each branch through the
# lateral join; a DISTINCT over everything would sort everything first (4.6 s, not 13 ms a series).
# What arrived last comes first: the journal, then the head by generation, then what is closed.
# NULLs make what is sorted smaller.
BODY = f"""
SELECT s.metric, s.labels, s.id AS series_id, merged.at, merged.value
FROM series s
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (every.at) every.at, every.value
    FROM (
    {SAMPLES_OF.format(table="chunks", generation="NULL::bigint")}
    UNION ALL
    {{head}}
    UNION ALL
    SELECT u.at, u.value, NULL, j.arrived_at, j.writer, j.seq, u.position
    FROM shards h
    JOIN journal j ON j.shard = h.shard AND j.arrived_at >= h.compacted_until
    CROSS JOIN LATERAL {{journal}}
    WHERE h.shard = s.shard AND u.series_id = s.id {{journal_span}}
    ) AS every
    ORDER BY every.at, every.arrived_at DESC NULLS LAST, every.writer DESC, every.seq DESC,
        every.position DESC, every.generation DESC NULLS LAST
) AS merged
{{merged_span}}
"""

EVER = {"chunk_span": "", "journal_span": "", "merged_span": ""}

BETWEEN = """
CREATE OR REPLACE FUNCTION samples_between(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (metric text, labels jsonb, series_id bigint, at timestamptz, value double precision)
LANGUAGE sql STABLE AS $$
{body}
$$
"""
SPAN = {
    "chunk_span": "AND k.start_at > from_at - interval '2 hours' AND k.start_at < to_at",
    "journal_span": "AND j.max_at >= from_at AND j.min_at < to_at",
    "merged_span": "WHERE merged.at >= from_at AND merged.at < to_at",
}

# How to take rows of the head and of the journal apart, until they are kept in another way.
OF_CHUNKS = SAMPLES_OF.format(table="chunks_head", generation="k.generation")
OF_ARRAYS = """
    unnest(j.series_ids, j.times, j."values") WITH ORDINALITY AS u (series_id, at, value, position)
"""


CHUNK_SAMPLES = """
-- The samples of one chunk, given its columns, in order of time and bit for bit as they came.
--
--   at    = start_at + step_us * (i + skipped) + shift_us + tick_us * late
--   value = (base + slope * i + factor * sum(deltas[0..i])) / 10 ^ exponent, or raw[i]
--
-- Packed number i lies in word i / lanes, i % lanes * bits above the lowest; lanes = 64 / bits;
-- those of `times` are skipped << late_bits | late. NULL `times` mean exactly on the grid, NULL
-- `deltas` a straight line (or raw).
--
-- PostgreSQL inlines it (it is not strict), so predicates on other columns reach the table. The
-- inner OFFSET 0 keeps it from working out `chunk` again for every sample, the outer one from
-- carrying all of `chunk` through the window.
CREATE FUNCTION chunk_samples(
    start_at timestamptz, count integer, step_us bigint,
    tick_us bigint, shift_us bigint, late_bits smallint, time_bits smallint, times bigint[],
    exponent smallint, factor bigint, base bigint, slope bigint, delta_bits smallint,
    deltas bigint[], raw float8[]
) RETURNS TABLE (at timestamptz, value float8) LANGUAGE sql STABLE PARALLEL SAFE ROWS 300 AS $$
SELECT at,
    CASE
        WHEN raw IS NULL THEN (base + slope * i + factor * coalesce(total, 0))::float8 / power
        ELSE raw[i + 1]
    END
FROM (
    SELECT i, at, power, sum(delta) OVER (ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT i, power,
            start_at + make_interval(secs => CASE
                WHEN times IS NULL THEN step_us * i
                ELSE step_us * (i + (place >> late_bits)) + shift_us + tick_us * (place & late_mask)
            END / 1e6::float8) AS at,
            ((deltas[i / lanes + 1] >> i % lanes * delta_bits) & delta_mask)::integer AS delta
        FROM (
            SELECT 64 / time_bits AS time_lanes, (1::bigint << time_bits) - 1 AS time_mask,
                64 / nullif(delta_bits, 0) AS lanes, (1::bigint << delta_bits) - 1 AS delta_mask,
                (1::bigint << late_bits) - 1 AS late_mask, 10.0::float8 ^ exponent AS power
            OFFSET 0
        ) AS chunk
        CROSS JOIN LATERAL (SELECT generate_series(0, count - 1) AS i) AS places
        CROSS JOIN LATERAL (
            SELECT (times[i / time_lanes + 1] >> i % time_lanes * time_bits) & time_mask AS place
        ) AS grid
        OFFSET 0
    ) AS numbers
) AS samples
$$
"""


def views(journal: str, head: str = OF_CHUNKS) -> list[str]:
    """Create or replace what reads the journal, by the samples `u` of one of its rows `j`.

    `head` tells those of a series `s` in the head.
    """
    ever, between = ({"head": _told(head, span), **span} for span in (EVER, SPAN))
    return [
        f"CREATE OR REPLACE VIEW samples AS {BODY.format(journal=journal, **ever)}",
        BETWEEN.format(body=BODY.format(journal=journal, **between)),
    ]


def _told(head: str, span: Mapping[str, str]) -> str:
    window_span = span["chunk_span"].replace("start_at", "window_at")
    return head.format(**span, window_span=window_span)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(CHUNK_SAMPLES)
    for statement in views(OF_ARRAYS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION samples_between(timestamptz, timestamptz)")
    op.execute("DROP VIEW samples")
    op.execute("DROP FUNCTION chunk_samples")

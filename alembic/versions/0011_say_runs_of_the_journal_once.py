"""Say of neighbouring samples only once whose they are, and how far apart (docs/decisions/0015).

Locks: none; rows that are there stay as they are, and are read as before. Undo: rewrites those that
were written since; no server of this version may run then.
"""

import runpy
from pathlib import Path
from typing import Any

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _revision(name: str) -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).with_name(name)))


BITS = _revision("0007_keep_the_journal_as_bits.py")
APPEND_BEFORE = _revision("0010_refuse_groups_that_come_late.py")["AFTER"]
DROP_APPEND = "DROP FUNCTION append_group"

JOURNAL_SAMPLES = f"""
-- The samples of one row of the journal, given its columns, in order of arrival from 0.
--
-- "values" has 64 bits a sample, of a double. So have `series_ids` and `times`, of a bigint and of
-- the microseconds since 2000; unless they are shorter: then both have 128 bits for each run of
-- samples of one series, as far apart from each other. The first has the id, its sign bit set, and
-- 32 bits each for the place of the run's first sample and for their number; the second the time of
-- the first one, and how far they are apart.
--
-- Doubles are put together here: sign, 52 bits of fraction below a one, exponent. All of it is
-- exact, but for what is no number or a tiny one; then `odd` has the values as they are.
--
-- PostgreSQL inlines it, so that a condition on series_id is looked at before anything else.
CREATE OR REPLACE FUNCTION journal_samples(
    samples integer, series_ids bit varying, times bit varying, "values" bit varying, odd float8[]
) RETURNS TABLE (i integer, series_id bigint, at timestamptz, value float8)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100 AS $$
SELECT i, series_id, timestamptz '2000-01-01 00:00Z' + us * interval '1 microsecond',
{BITS["VALUE"]}
FROM (
    SELECT i, substring(series_ids FROM 64 * i + 1 FOR 64)::bigint AS series_id,
        substring(times FROM 64 * i + 1 FOR 64)::bigint AS us
    FROM generate_series(
        0, CASE WHEN length(series_ids) < 64 * samples THEN -1 ELSE samples - 1 END
    ) AS i
    UNION ALL
    SELECT first + n, substring(series_ids FROM 128 * r + 2 FOR 63)::bigint,
        substring(times FROM 128 * r + 1 FOR 64)::bigint
            + n * substring(times FROM 128 * r + 65 FOR 64)::bigint
    FROM generate_series(
        0, CASE WHEN length(series_ids) < 64 * samples THEN length(series_ids) / 128 - 1 ELSE -1 END
    ) AS r
    CROSS JOIN LATERAL (
        SELECT substring(series_ids FROM 128 * r + 65 FOR 32)::integer AS first,
            substring(series_ids FROM 128 * r + 97 FOR 32)::integer AS count
    ) AS run
    CROSS JOIN LATERAL generate_series(0, count - 1) AS n
) AS told
{BITS["PARTS"]}
$$
"""

APPEND_GROUP = """
-- One group's rows of the journal, and its writer's next commit: all of it or, if that writer may
-- not commit, or it is past `not_after`, nothing. Tells when the group arrived, else NULL.
--
-- Row n has the next `counts[n]` samples: 64 bits of `all_values` each, and `words[n]` times 64 of
-- `all_ids` and of `all_times`, as they go into the columns. They are of `row_shards[n]` and follow
-- `firsts[n]` others of that shard; their times lie from `earliest[n]` to `latest[n]`, in
-- microseconds since 2000. If SQL cannot make all of their doubles from bits, `odd_values` has them
-- from `odds[n]` on.
--
-- The group arrives once its writer's row is locked, and after all that was compacted by then.
CREATE FUNCTION append_group(
    of_writer bigint, of_seq bigint,
    row_shards smallint[], firsts integer[], starts integer[], counts integer[],
    word_starts integer[], words integer[],
    earliest bigint[], latest bigint[], odds integer[],
    all_ids bit varying, all_times bit varying, all_values bit varying, odd_values float8[],
    not_after timestamptz
) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    arrived timestamptz;
BEGIN
    UPDATE writers SET last_seq = of_seq, last_at = clock_timestamp()
    WHERE writer = of_writer AND last_seq = of_seq - 1 AND NOT fenced;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF clock_timestamp() > not_after THEN
        UPDATE writers SET last_seq = of_seq - 1, fenced = true WHERE writer = of_writer;
        RETURN NULL;
    END IF;
    arrived := greatest(clock_timestamp(), (SELECT max(compacted_until) FROM shards));
    INSERT INTO journal (
        writer, seq, arrived_at, min_at, max_at, first, samples, shard,
        series_ids, times, "values", odd
    )
    SELECT of_writer, of_seq, arrived,
        timestamptz '2000-01-01 00:00Z' + r.earliest * interval '1 microsecond',
        timestamptz '2000-01-01 00:00Z' + r.latest * interval '1 microsecond',
        r.first, r.samples, r.shard,
        substring(all_ids FROM 64 * r.word + 1 FOR 64 * r.words),
        substring(all_times FROM 64 * r.word + 1 FOR 64 * r.words),
        substring(all_values FROM 64 * r.start + 1 FOR 64 * r.samples),
        CASE WHEN r.odd IS NOT NULL THEN odd_values[r.odd : r.odd + r.samples - 1] END
    FROM unnest(
        row_shards, firsts, starts, counts, word_starts, words, earliest, latest, odds
    ) AS r (shard, first, start, samples, word, words, earliest, latest, odd);
    RETURN arrived;
END
$$
"""

# Rows of fewer samples, as each takes more. What is written is not read by the same statement.
UNROLL = f"""
INSERT INTO journal (
    slot, shard, writer, seq, arrived_at, min_at, max_at, first, samples,
    series_ids, times, "values", odd
)
SELECT j.slot, j.shard, j.writer, j.seq, j.arrived_at, min(u.at), max(u.at), j.first + min(u.i),
    count(*), {BITS["bits"]("int8send(u.series_id)")}, {BITS["bits"]("timestamptz_send(u.at)")},
    {BITS["bits"]("float8send(u.value)")}, {BITS["ODD"]}
FROM journal j
CROSS JOIN LATERAL journal_samples(j.samples, j.series_ids, j.times, j."values", j.odd) AS u
WHERE length(j.series_ids) < 64 * j.samples
GROUP BY j.slot, j.shard, j.writer, j.seq, j.arrived_at, j.first, u.i / {BITS["ROW_SAMPLES"]}
"""
FORGET_RUNS = "DELETE FROM journal WHERE length(series_ids) < 64 * samples"


def upgrade() -> None:
    op.execute(JOURNAL_SAMPLES)
    op.execute(DROP_APPEND)
    op.execute(APPEND_GROUP)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(UNROLL)
    op.execute(FORGET_RUNS)
    op.execute(BITS["JOURNAL_SAMPLES"].replace("CREATE", "CREATE OR REPLACE"))
    op.execute(DROP_APPEND)
    op.execute(APPEND_BEFORE)

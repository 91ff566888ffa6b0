"""Append a group to the journal in one statement (docs/decisions/0011).

Locks: none. Undo: drops the function; servers of the version before do not ask for it.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

APPEND_GROUP = """
-- One group's rows of the journal, and its writer's next commit: all of it or, if that writer may
-- not commit, nothing. Tells when the group arrived, else NULL.
--
-- `all_ids`, `all_times` and `all_values` have 64 bits a sample, as the columns they go into. Row n
-- has `counts[n]` of them from `starts[n]` on, which are of `row_shards[n]` and follow `firsts[n]`
-- others of that shard; their times lie from `earliest[n]` to `latest[n]`, in microseconds since
-- 2000. If SQL cannot make all of their doubles from bits, `odd_values` has them from `odds[n]` on.
--
-- The group arrives once its writer's row is locked, and after all that was compacted by then.
CREATE FUNCTION append_group(
    of_writer bigint, of_seq bigint,
    row_shards smallint[], firsts integer[], starts integer[], counts integer[],
    earliest bigint[], latest bigint[], odds integer[],
    all_ids bit varying, all_times bit varying, all_values bit varying, odd_values float8[]
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
    arrived := greatest(clock_timestamp(), (SELECT max(compacted_until) FROM shards));
    INSERT INTO journal (
        writer, seq, arrived_at, min_at, max_at, first, samples, shard,
        series_ids, times, "values", odd
    )
    SELECT of_writer, of_seq, arrived,
        timestamptz '2000-01-01 00:00Z' + r.earliest * interval '1 microsecond',
        timestamptz '2000-01-01 00:00Z' + r.latest * interval '1 microsecond',
        r.first, r.samples, r.shard,
        substring(all_ids FROM 64 * r.start + 1 FOR 64 * r.samples),
        substring(all_times FROM 64 * r.start + 1 FOR 64 * r.samples),
        substring(all_values FROM 64 * r.start + 1 FOR 64 * r.samples),
        CASE WHEN r.odd IS NOT NULL THEN odd_values[r.odd : r.odd + r.samples - 1] END
    FROM unnest(row_shards, firsts, starts, counts, earliest, latest, odds)
        AS r (shard, first, start, samples, earliest, latest, odd);
    RETURN arrived;
END
$$
"""


def upgrade() -> None:
    op.execute(APPEND_GROUP)


def downgrade() -> None:
    op.execute("DROP FUNCTION append_group")

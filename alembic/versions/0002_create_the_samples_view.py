"""Create the view `samples` and the function `samples_between`, for people with SQL.

Locks: none, both are new.
Undo: drop both; they hold no data.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Conditions on metric, labels and series_id reach the journal's (shard, arrived_at) index through
# the lateral join; a DISTINCT over everything would sort everything first.
BODY = """
SELECT s.metric, s.labels, s.id AS series_id, merged.at, merged.value
FROM series s
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (u.at) u.at, u.value
    FROM shards h
    JOIN journal j ON j.shard = h.shard AND j.arrived_at >= h.compacted_until
    CROSS JOIN LATERAL unnest(j.series_ids, j.times, j."values") WITH ORDINALITY
        AS u (series_id, at, value, position)
    WHERE h.shard = s.shard AND u.series_id = s.id {journal_span}
    ORDER BY u.at, j.arrived_at DESC, j.writer DESC, j.seq DESC, u.position DESC
) AS merged
{merged_span}
"""

VIEW = "CREATE VIEW samples AS " + BODY.format(journal_span="", merged_span="")

BETWEEN = f"""
CREATE FUNCTION samples_between(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (metric text, labels jsonb, series_id bigint, at timestamptz, value double precision)
LANGUAGE sql STABLE AS $$
{
    BODY.format(
        journal_span="AND j.max_at >= from_at AND j.min_at < to_at",
        merged_span="WHERE merged.at >= from_at AND merged.at < to_at",
    )
}
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(VIEW)
    op.execute(BETWEEN)


def downgrade() -> None:
    op.execute("DROP FUNCTION samples_between(timestamptz, timestamptz)")
    op.execute("DROP VIEW samples")

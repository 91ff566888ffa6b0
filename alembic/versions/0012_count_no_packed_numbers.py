"""Keep no statistics of packed numbers (docs/decisions/0017).

Locks: none that readers or writers wait for; autovacuum gives way. Undo: statistics are kept again,
from the next ANALYZE on.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Whatever is in them, no plan depends on it. Partitions made later do not inherit it.
PACKED = {
    "chunks": ("times", "deltas", "raw"),
    "rollups_5m": ("facts", "words", "raw"),
    "rollups_1h": ("facts", "words", "raw"),
}
SET_STATISTICS = """
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT relid FROM pg_partition_tree('{table}') LOOP
        EXECUTE format('ALTER TABLE %s {columns}', part);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    _set_statistics(0)


def downgrade() -> None:
    _set_statistics(-1)


def _set_statistics(target: int) -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, packed in PACKED.items():
        columns = ", ".join(f"ALTER {column} SET STATISTICS {target}" for column in packed)
        op.execute(SET_STATISTICS.format(table=table, columns=columns))

"""Refuse groups that PostgreSQL begins with long after they were sent (docs/decisions/0011).

Locks: none. Undo: the function of before; no server of this version may run then.
"""

import runpy
from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BEFORE = runpy.run_path(str(Path(__file__).with_name("0009_append_groups_in_one_statement.py")))[
    "APPEND_GROUP"
]
DROP = "DROP FUNCTION append_group"

# Whoever sent it may be gone, and the same samples stored by another server, with corrections
# behind them that these would replace. The writer is closed, so that whoever lives takes another.
LATE = """
    IF clock_timestamp() > not_after THEN
        UPDATE writers SET last_seq = of_seq - 1, fenced = true WHERE writer = of_writer;
        RETURN NULL;
    END IF;
"""
AFTER = (
    BEFORE.replace("odd_values float8[]\n)", "odd_values float8[],\n    not_after timestamptz\n)")
    .replace("    arrived :=", f"{LATE.lstrip(chr(10))}    arrived :=")
    .replace(
        "may\n-- not commit, nothing.", "may\n-- not commit, or it is past `not_after`, nothing."
    )
)


def upgrade() -> None:
    op.execute(DROP)
    op.execute(AFTER)


def downgrade() -> None:
    op.execute(DROP)
    op.execute(BEFORE)

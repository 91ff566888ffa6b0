"""Create limits: how much a tenant, or one key of it, may do.

Locks: none, the table is new.
Undo: nothing. The table stays and is found again.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A row for a tenant (key_id is empty) or for one of its keys; NULL is no limit. Whoever changes it
# numbers the change in access_state, as changes of keys are.
LIMITS = """
CREATE TABLE IF NOT EXISTS limits (
    tenant_id integer NOT NULL REFERENCES tenants (id),
    key_id text NOT NULL DEFAULT '',
    requests_per_s float8 CHECK (requests_per_s > 0),
    samples_per_s float8 CHECK (samples_per_s > 0),
    active_series bigint CHECK (active_series >= 0),
    live_connections integer CHECK (live_connections >= 0),
    query_samples bigint CHECK (query_samples > 0),
    query_series bigint CHECK (query_series > 0),
    PRIMARY KEY (tenant_id, key_id)
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(LIMITS)


def downgrade() -> None:
    """It is in nobody's way."""

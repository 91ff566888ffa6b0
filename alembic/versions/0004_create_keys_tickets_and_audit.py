"""Create API keys, tickets for WebSockets, and the audit trail.

Locks: none, all are new.
Undo: nothing. The tables stay and are found again, for nobody could make the same keys anew.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# One row. Whoever changes a key takes its lock and the next number, so numbers are in the order of
# commits, and a server asks one row whether there is anything new.
ACCESS_STATE = """
CREATE TABLE IF NOT EXISTS access_state (
    changes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10)
"""

# Rows stay when a key is revoked: servers read what changed, and the audit trail names them.
# The digest is SHA-256 of the whole key; its secret has 256 random bits, so that is enough.
API_KEYS = """
CREATE TABLE IF NOT EXISTS api_keys (
    id text PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenants (id),
    name text NOT NULL,
    scopes text[] NOT NULL,
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    change bigint NOT NULL
)
"""

# Lives for a minute; deleted by whoever uses it, so it is used once.
LIVE_TICKETS = """
CREATE TABLE IF NOT EXISTS live_tickets (
    digest bytea PRIMARY KEY,
    tenant_id integer NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    key_id text,
    expires_at timestamptz NOT NULL
)
"""

AUDIT = """
CREATE TABLE IF NOT EXISTS audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id integer NOT NULL,
    actor text NOT NULL,
    actor_key_id text,
    action text NOT NULL,
    target text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (ACCESS_STATE, API_KEYS, LIVE_TICKETS, AUDIT):
        op.execute(statement)
    op.execute("INSERT INTO access_state SELECT WHERE NOT EXISTS (SELECT FROM access_state)")
    op.execute("CREATE INDEX IF NOT EXISTS api_keys_change ON api_keys (change)")
    op.execute("CREATE INDEX IF NOT EXISTS api_keys_tenant ON api_keys (tenant_id, created_at)")
    op.execute("CREATE INDEX IF NOT EXISTS live_tickets_expires ON live_tickets (expires_at)")
    op.execute("CREATE INDEX IF NOT EXISTS audit_tenant ON audit (tenant_id, at)")


def downgrade() -> None:
    """They are in nobody's way."""

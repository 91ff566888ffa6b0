"""Create sessions, the administrator's password, and what SQL users may see.

Locks: `live_tickets`, which nobody holds for longer than a statement. The index is built beside
writers.
Undo: drop the schema of SQL users, which holds no data. The tables stay and are found again; who
was signed in still is, and SQL users see their views again.
"""

from alembic import op
from infrawatch.store.indexes import build_index

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The digest is SHA-256 of the whole cookie, which has 256 random bits.
SESSIONS = """
CREATE TABLE IF NOT EXISTS sessions (
    id text PRIMARY KEY,
    digest bytea NOT NULL,
    tenant_id integer NOT NULL REFERENCES tenants (id),
    name text NOT NULL,
    scopes text[] NOT NULL,
    way text NOT NULL,
    key_id text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
)
"""

# One row at most: Argon2 as argon2-cffi encodes it.
ADMINISTRATOR = """
CREATE TABLE IF NOT EXISTS admin_password (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    hash text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

TICKET_COLUMNS = """
ALTER TABLE live_tickets ADD COLUMN IF NOT EXISTS session_id text,
    ADD COLUMN IF NOT EXISTS good_until timestamptz
"""

SQL_USERS = """
CREATE TABLE IF NOT EXISTS sql_users (
    role name PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenants (id),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL
)
"""

# SQL users may use nothing but this schema. All they see comes out of functions that run as their
# owner and give rows of the tenant of `session_user`, whatever is asked: it is who logged in, which
# SET ROLE does not change. A function is one node of a plan. So no condition of a user meets a row
# of another tenant, EXPLAIN shows no rows that were passed over, and no estimate was made from
# anybody's statistics; of plain views all of that could be had.
IS_OWN = """
SELECT FROM series o JOIN sql_users u ON u.tenant_id = o.tenant_id
    WHERE o.id = series AND u.role = session_user
"""

AS_OWNER = "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp"

SERIES_OF_USER = f"""
CREATE FUNCTION infrawatch_sql.series_of_user()
RETURNS TABLE (series_id bigint, metric text, labels jsonb, created_at timestamptz)
{AS_OWNER} ROWS 10000 AS $$
SELECT s.id, s.metric, s.labels, s.created_at
FROM sql_users u JOIN series s ON s.tenant_id = u.tenant_id
WHERE u.role = session_user
$$
"""

SERIES = """
CREATE VIEW infrawatch_sql.series WITH (security_barrier) AS
SELECT series_id, metric, labels, created_at FROM infrawatch_sql.series_of_user()
"""

# Of one series, by its id; of nobody else's.
ROWS_OF = f"""
CREATE FUNCTION infrawatch_sql.{{name}}_of(series bigint, from_at timestamptz, to_at timestamptz)
RETURNS TABLE ({{columns}})
{AS_OWNER} AS $$
SELECT {{wanted}} FROM {{name}}_between(from_at, to_at) r
WHERE r.series_id = series AND EXISTS ({IS_OWN})
$$
"""

# No barrier here: conditions on metric and labels shall choose the series before their samples are
# read, and both of what is joined holds rows of this tenant alone.
ROWS = """
SELECT s.metric, s.labels, s.series_id, {wanted}
FROM infrawatch_sql.series s
CROSS JOIN LATERAL infrawatch_sql.{name}_of(s.series_id, {from_at}, {to_at}) r
"""

BETWEEN = """
CREATE FUNCTION infrawatch_sql.{name}_between(from_at timestamptz, to_at timestamptz)
RETURNS TABLE (metric text, labels jsonb, series_id bigint, {columns})
LANGUAGE sql STABLE AS $$ {rows} $$
"""

SAMPLE = {"at": "timestamptz", "value": "double precision"}
BUCKET = {"at": "timestamptz", "count": "bigint"} | dict.fromkeys(
    ("sum", "min", "max", "last"), "double precision"
)
SHOWN = {"samples": SAMPLE, "rollup_5m": BUCKET, "rollup_1h": BUCKET}

# Users that were there before the schema went.
GRANTS_AGAIN = """
DO $$
DECLARE known name;
BEGIN
    FOR known IN SELECT u.role FROM sql_users u JOIN pg_roles p ON p.rolname = u.role LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA infrawatch_sql TO %I', known);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA infrawatch_sql TO %I', known);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA infrawatch_sql TO %I', known);
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (SESSIONS, ADMINISTRATOR, TICKET_COLUMNS, SQL_USERS):
        op.execute(statement)
    op.execute("DROP SCHEMA IF EXISTS infrawatch_sql CASCADE")  # of a try that did not end
    op.execute("CREATE SCHEMA infrawatch_sql")
    op.execute(SERIES_OF_USER)
    op.execute(SERIES)
    for name, shown in SHOWN.items():
        columns = ", ".join(f"{column} {kind}" for column, kind in shown.items())
        wanted = ", ".join(f"r.{column}" for column in shown)
        op.execute(ROWS_OF.format(name=name, columns=columns, wanted=wanted))
        forever = {"from_at": "'-infinity'", "to_at": "'infinity'"}
        rows = ROWS.format(name=name, wanted=wanted, **forever)
        op.execute(f"CREATE VIEW infrawatch_sql.{name} AS {rows}")
        rows = ROWS.format(name=name, wanted=wanted, from_at="from_at", to_at="to_at")
        op.execute(BETWEEN.format(name=name, columns=columns, rows=rows))
    op.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA infrawatch_sql FROM PUBLIC")
    op.execute(GRANTS_AGAIN)
    build_index("series", "by_id", "(id)")  # whoever has only an id would read all series


def downgrade() -> None:
    op.execute("DROP SCHEMA infrawatch_sql CASCADE")

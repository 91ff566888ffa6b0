"""Indexes of tables in use: built by migrations while samples arrive."""

from sqlalchemy import Connection, text

from alembic import op

_PARTITIONS = text("""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST(:table AS regclass) ORDER BY 1
""")

# An interrupted build leaves an invalid index, which slows writes and serves no query.
_IS_UNFINISHED = text("""
SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(CAST(:name AS text))
""")

_IS_ATTACHED = text("""
SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(CAST(:name AS text)))
""")


def build_index(table: str, suffix: str, definition: str) -> None:
    """Build the index `<table>_<suffix>` without blocking writes; for migrations.

    `definition` is what follows the table: `(end_at)`, `USING gin (labels)`. A partitioned table
    gets one index per partition. Earlier steps of the same migration are committed first, so call
    this last. A migration that failed here can run again and resumes where it stopped.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        parts = list(connection.execute(_PARTITIONS, {"table": table}).scalars())
        if not parts:
            _build(connection, table, suffix, definition)
            return
        # ON ONLY the parent: blocks writes for an instant. Partitions' indexes are attached to it.
        connection.execute(text("SET lock_timeout = '5s'"))
        whole = f"{table}_{suffix}"
        connection.execute(text(f"CREATE INDEX IF NOT EXISTS {whole} ON ONLY {table} {definition}"))
        connection.execute(text("RESET lock_timeout"))
        for part in parts:
            name = f"{part}_{suffix}"
            if not connection.execute(_IS_ATTACHED, {"name": name}).scalar_one():
                _build(connection, part, suffix, definition)
                connection.execute(text(f"ALTER INDEX {whole} ATTACH PARTITION {name}"))


def _build(connection: Connection, table: str, suffix: str, definition: str) -> None:
    name = f"{table}_{suffix}"
    if connection.execute(_IS_UNFINISHED, {"name": name}).scalar_one_or_none():
        connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
    statement = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} {definition}"
    connection.execute(text(statement))

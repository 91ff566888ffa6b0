"""The schema fulfils the requirements of Citus (docs/scaling.md), checked in the catalogue."""

import re
from pathlib import Path

import pytest
from conftest import execute

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text("utf-8")
STORE = ROOT / "src" / "infrawatch" / "store"

REFERENCE = {"shards", "tenants"}

# Tables that have the column, partitions too, with what each rule asks of them.
DISTRIBUTED = """
WITH distributed AS (
    SELECT c.oid, c.relname, c.relispartition, a.attnum, a.atttypid, a.attnotnull
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'shard'
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
        AND c.relname <> 'shards'
)
"""
NAMES = f"{DISTRIBUTED} SELECT relname FROM distributed WHERE NOT relispartition"
RULES = {
    "the column is alike everywhere, so that tables can be colocated": f"""{DISTRIBUTED}
        SELECT relname FROM distributed WHERE atttypid <> 'smallint'::regtype OR NOT attnotnull""",
    "every unique key holds the column": f"""{DISTRIBUTED}
        SELECT indexrelid::regclass FROM distributed JOIN pg_index ON indrelid = oid
        WHERE indisunique AND attnum <> ALL (indkey)""",
    "no foreign key, nor key that excludes": f"""{DISTRIBUTED}
        SELECT conname FROM distributed d JOIN pg_constraint c ON d.oid IN (c.conrelid, c.confrelid)
        WHERE contype IN ('f', 'x')""",
    "no trigger": f"""{DISTRIBUTED}
        SELECT tgname FROM distributed JOIN pg_trigger ON tgrelid = distributed.oid""",
    "no rule": f"""{DISTRIBUTED}
        SELECT rulename FROM distributed JOIN pg_rewrite ON ev_class = distributed.oid""",
    "no partitions of partitions": f"""{DISTRIBUTED}
        SELECT relname FROM distributed WHERE relispartition
            AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = oid)""",
    "a series' id knows its shard": f"""{DISTRIBUTED}
        SELECT 'series' WHERE NOT EXISTS (SELECT FROM pg_constraint
            WHERE conrelid = 'series'::regclass AND contype = 'c'
                AND pg_get_constraintdef(oid) LIKE '%id & %63%shard%')""",
}
BREAKS = {
    "the column is alike everywhere, so that tables can be colocated": "(shard integer NOT NULL)",
    "every unique key holds the column": "(shard smallint NOT NULL, id bigint PRIMARY KEY)",
    "no foreign key, nor key that excludes": (
        "(shard smallint NOT NULL, tenant_id integer REFERENCES tenants (id))"
    ),
}

LOCKS = re.compile(r"FOR (?:NO KEY )?(?:UPDATE|SHARE|KEY SHARE)\b")
STATEMENT = re.compile(r'"""(.*?)"""|"([^"\n]*)"', re.DOTALL)


@pytest.mark.parametrize("rule", RULES)
def test_the_schema_keeps_to_what_citus_asks_for(rule: str, shared_database_url: str) -> None:
    assert execute(shared_database_url, RULES[rule]) == ""


@pytest.mark.parametrize("rule", BREAKS)
def test_a_table_that_does_not_is_found(rule: str, database_url: str) -> None:
    execute(database_url, f"CREATE TABLE wrong {BREAKS[rule]}")
    assert "wrong" in execute(database_url, RULES[rule])


def test_the_page_distributes_the_tables_that_have_a_shard(shared_database_url: str) -> None:
    distributed = set(execute(shared_database_url, NAMES).split())
    told = "\n".join(line for line in PAGE.splitlines() if "distributed" in line or "'" in line)
    assert distributed
    for name in distributed:
        assert f"'{name}'" in told, f"docs/scaling.md does not distribute {name}"
        assert f"`{name}`" in told
    for name in REFERENCE:
        assert f"('{name}')" in told


def test_rows_are_locked_in_tables_only_that_are_not_distributed(shared_database_url: str) -> None:
    distributed = set(execute(shared_database_url, NAMES).split())
    locked: list[str] = []
    for path in STORE.glob("*.py"):
        for found in STATEMENT.finditer(path.read_text("utf-8")):
            statement = found[1] or found[2] or ""
            if LOCKS.search(statement) and re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)", statement):
                tables = re.findall(r"(?:FROM|JOIN|UPDATE) (\w+)", statement)
                locked += tables
                assert not distributed & set(tables), f"{path.name}: {statement}"
    assert {"shards", "writers"} <= set(locked)  # those there are were found

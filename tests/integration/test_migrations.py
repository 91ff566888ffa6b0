"""Migrations: once for all who start together, back and forth, under load, and in place."""

import asyncio
import os
import shutil
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from commands import infrawatch, up
from conftest import Clone, execute
from httpx import AsyncClient
from integration.conftest import serving
from keys import OWN_PAGE, TESTS, a_key, bearing
from pushing import now_ms, push, series
from sqlalchemy import text
from stored import named, store

from infrawatch.access.login.passwords import set_password
from infrawatch.access.sql_users import create_sql_user
from infrawatch.embedded.postgres import postgres_running
from infrawatch.model.timerange import from_us, now_us
from infrawatch.store.database import Database
from infrawatch.store.migrations import move_to, upgrade
from infrawatch.store.schema import SCRIPTS, newest_revision, revisions
from infrawatch.upkeep import compaction

ROOT = Path(__file__).parents[2]
DAY_MS = 86_400_000

# What may be held in another way, by a merge or by an older schema, is compared through the views.
REWRITTEN = ("chunks", "journal", "rollups", "shards", "alembic_version")
VIEWS = ("samples", "rollup_5m", "rollup_1h")

TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""

BUILDS = text("""
SELECT count(*) > 0 FROM pg_stat_activity
WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
    AND datname = current_database()
""")

LATER = """
from infrawatch.store.indexes import build_index

revision = "9999"
down_revision = "{before}"


def upgrade() -> None:
    build_index("series", "created", "(created_at)")
    build_index("chunks", "end", "(end_at)")


def downgrade() -> None:
    pass
"""


@pytest.fixture
def empty_url(clone: Clone) -> Iterator[str]:
    """A database in which nothing was ever done."""
    with clone("template0") as url:
        yield url


async def test_servers_that_start_together_migrate_once(empty_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infrawatch", "migrate"),
            stdout=PIPE,
            env=os.environ | {"INFRAWATCH_DATABASE_URL": empty_url},
        )
        for _ in range(3)
    ]

    outputs = await asyncio.gather(*(process.communicate() for process in processes))

    # CREATE TABLE fails the second time, so a migration that ran twice would show.
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert {out for out, _ in outputs} == {
        f"The database is at schema {newest_revision()}.\n".encode()
    }
    assert execute(empty_url, "SELECT count(*) FROM installation") == "1"


def test_revisions_count_from_0001_so_that_a_newer_one_is_known_by_its_number() -> None:
    assert list(revisions()) == [f"{number:04}" for number in range(1, len(revisions()) + 1)]


def test_revisions_are_those_that_alembic_finds() -> None:
    alembics = [script.revision for script in ScriptDirectory(SCRIPTS).walk_revisions()]

    assert list(revisions()) == alembics[::-1]


async def test_every_revision_can_be_undone_and_done_again_without_loss(database_url: str) -> None:
    await _fill(database_url)
    before = _content(database_url)
    empty = [name for name, rows in before.items() if not rows]
    assert empty == [], "fill these, too: downgrades must keep their rows"

    for revision in reversed(revisions()[:-1]):
        await move_to(database_url, revision)
        if revision > "0001":
            assert _rows(database_url, "samples") == before["samples"]
        await upgrade(database_url)
        await _merge(database_url)
        after = _content(database_url)
        assert after == before, revision


async def test_a_data_directory_of_the_previous_version_is_upgraded_in_place(
    temporary_root: Path,
) -> None:
    data_dir = temporary_root / "previous"
    now_s = now_us() // 10**6
    told = [
        ((now_s - n) * 10**6, value) for n, value in enumerate([-0.0, 5e-324, 1e300, 42.5] * 90)
    ]
    async with postgres_running(data_dir) as postgres:
        url = postgres.endpoint.url()
        await upgrade(url)
        async with Database.open(url) as database:
            await store(database, {named("m"): told})
        await move_to(url, revisions()[-2])

    async with (
        up(data_dir, "--no-agent") as running,
        AsyncClient(base_url=running.url, timeout=30) as client,
    ):
        asked = {"match": "m", "precision": "us"}
        found = (await client.get("/v1/samples", params=asked)).json()["series"]

    assert [repr(one) for one in found[0]["samples"]] == [repr([*one]) for one in sorted(told)]


def test_an_older_schema_is_refused_with_what_to_do(empty_url: str) -> None:
    previous = revisions()[-2]
    moved = infrawatch("migrate", "--to", previous, url=empty_url)
    assert (moved.returncode, moved.stdout) == (0, f"The database is at schema {previous}.\n")

    refused = infrawatch("serve", "--port", 0, url=empty_url)

    assert refused.returncode == 1
    assert refused.stderr == (
        f"infrawatch: The database is at schema {previous}, and this version speaks "
        f"{newest_revision()}. Run `infrawatch migrate` first.\n"
    )


def test_a_newer_schema_is_refused_with_what_to_do(database_url: str) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")

    for command in (("serve", "--port", 0), ("migrate",)):
        refused = infrawatch(*command, url=database_url)
        assert refused.returncode == 1
        assert refused.stderr.startswith("infrawatch: The database is at schema 9999")
        assert f"infrawatch migrate --to {newest_revision()}" in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_an_unknown_schema_is_refused_with_a_list_of_known_ones(database_url: str) -> None:
    refused = infrawatch("migrate", "--to", "12", url=database_url)

    assert refused.returncode == 1
    assert f"'12': this version knows {', '.join(revisions())}." in refused.stderr


async def test_a_server_stays_ready_while_a_newer_version_takes_over(database_url: str) -> None:
    async with serving(database_url) as url, AsyncClient(base_url=url, timeout=30) as client:
        execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
        assert (await client.get("/readyz")).status_code == 200


async def test_files_that_an_upgrade_replaces_beneath_a_server_do_not_make_it_unready(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = _with_a_later_migration(tmp_path).parent / "alembic"
    revisions.cache_clear()
    async with serving(database_url) as url, AsyncClient(base_url=url, timeout=30) as client:
        monkeypatch.setattr("infrawatch.store.schema.SCRIPTS", later)
        assert (await client.get("/readyz")).status_code == 200


async def test_an_index_is_built_while_samples_arrive_and_processes_wait_to_migrate(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    await _fill(database_url)
    execute(database_url, "CREATE INDEX chunks_end ON ONLY chunks (end_at)")  # a try that failed
    home = _with_a_later_migration(tmp_path)
    async with asyncio.TaskGroup() as tasks, database.writing() as connection:
        # CREATE INDEX alone would queue behind this, and all other writers behind that.
        await connection.execute(text("UPDATE series SET shard = shard"))
        await connection.execute(text("DELETE FROM chunks WHERE false"))
        migrations = [tasks.create_task(_alembic(home, database_url)) for _ in range(2)]
        await _until_it_builds(database)
        await store(database, {named("meanwhile"): [(now_us(), 1.0)]})

    assert [migration.result() for migration in migrations] == [0, 0]
    assert execute(database_url, "SELECT to_regclass('series_created')") == "series_created"
    assert execute(database_url, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == "0"
    assert _parts(database_url, "chunks_end") == _parts(database_url, "chunks")


def _with_a_later_migration(directory: Path) -> Path:
    """A checkout's migrations, and one more that builds indexes."""
    shutil.copytree(ROOT / "alembic", directory / "alembic")
    shutil.copy(ROOT / "alembic.ini", directory)
    later = directory / "alembic" / "versions" / "9999_build_indexes.py"
    later.write_text(LATER.format(before=newest_revision()))
    return directory / "alembic.ini"


async def _alembic(configuration: Path, url: str) -> int | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "-c", configuration, "upgrade", "head"),
        env=os.environ | {"INFRAWATCH_DATABASE_URL": url},
    )
    await process.wait()
    return process.returncode


async def _until_it_builds(database: Database) -> None:
    async with asyncio.timeout(250):
        while True:
            async with database.reading() as connection:
                if (await connection.execute(BUILDS)).scalar_one():
                    return
            await asyncio.sleep(0.05)


def _parts(url: str, parent: str) -> str:
    return execute(url, f"SELECT count(*) FROM pg_inherits WHERE inhparent = '{parent}'::regclass")


async def _fill(url: str) -> None:
    """Something in every table, in every tier: closed windows, open ones, the journal."""
    now = now_ms()
    async with serving(url) as address, AsyncClient(base_url=address, timeout=30) as client:
        days = [[now - day * DAY_MS, day] for day in range(3)]
        await push(client, series("old", *days, type="gauge", unit="s", help="h"))
        await _merge(url)
        await push(client, series("old", [now, 7]), series("new", [now, 8]))
        # More of one series than a row has where each sample takes all of its bits.
        await push(client, series("regular", *([now - n * 30_000, n / 8] for n in range(700))))
        assert (await client.post("/v1/live/tickets")).status_code == 201
    execute(url, "INSERT INTO limits (tenant_id) VALUES (1)")
    key = await a_key(url, "read")
    async with (
        serving(url, auth="required") as address,
        AsyncClient(base_url=address, headers=OWN_PAGE, timeout=30) as client,
    ):
        answer = await client.post("/v1/session", json={}, headers=bearing(key))
        assert answer.status_code == 201
    async with Database.open(url, write_pool_size=1) as database:
        await set_password(database, "correct horse battery", TESTS)
        await create_sql_user(database, f"t{uuid.uuid4().hex[:16]}", "default", TESTS)


async def _merge(url: str) -> None:
    """Close what has ended."""
    async with Database.open(url) as database:
        await compaction.compact_until(database, from_us(now_us()))
        await compaction.merge_until(database, compaction.closed_until())


def _content(url: str) -> dict[str, list[str]]:
    """The rows of every table and view, except those that a merge rewrites."""
    tables = execute(url, TABLES).split()
    kept = [name for name in tables if not name.startswith(REWRITTEN)]
    return {name: _rows(url, name) for name in (*kept, *VIEWS)}


def _rows(url: str, name: str) -> list[str]:
    return sorted(execute(url, f"SELECT * FROM {name}").splitlines())

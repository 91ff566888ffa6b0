"""`infrawatch doctor` names each fault, says what to do, and leaves with 1."""

import os
import resource
import shutil
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

import psutil
import pytest
from anyio.from_thread import start_blocking_portal
from conftest import execute
from integration.conftest import serving
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from infrawatch.cli.commands import app
from infrawatch.cli.doctor import OTHER_CONNECTIONS
from infrawatch.embedded.postgres import postgres_running
from infrawatch.embedded.valkey import valkey_running
from infrawatch.settings import Settings
from infrawatch.store.database import create_engine
from infrawatch.store.migrations import upgrade

GIB = 1024**3

# In front of PostgreSQL's own, for what one cannot have here: another version, another clock.
PRETEND = """
CREATE FUNCTION {function} LANGUAGE sql AS $$ {body} $$;
ALTER DATABASE {database} SET search_path = public, pg_catalog
"""


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without `.env` and data, variables of nobody."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INFRAWATCH_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def enough_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few to begin with, as most systems have it, and as many as the server then asks for."""
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1_024, 65_536))


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """One that is as it should be, though the tests' PostgreSQL does not sync."""
    monkeypatch.setenv("INFRAWATCH_DATABASE_URL", database_url)
    pretend(database_url, fsync="on")
    return database_url


def pretend(url: str, **settings: str) -> None:
    cases = " ".join(f"WHEN '{name}' THEN '{value}'" for name, value in settings.items())
    body = f"SELECT CASE $1 {cases} ELSE pg_catalog.current_setting($1) END"
    shadow(url, "public.current_setting(text) RETURNS text", body)


def shadow(url: str, function: str, body: str) -> None:
    statements = PRETEND.format(function=function, body=body, database=url.rpartition("/")[2])
    for statement in statements.replace("CREATE", "CREATE OR REPLACE").split(";"):
        execute(url, statement)


def doctor(*options: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *options])


def said_of(result: Result, about: str) -> str:
    """The one line about something, without its columns."""
    lines = [line.split(maxsplit=1) for line in result.output.splitlines()]
    [found] = [f"{level}: {rest}" for level, rest in lines if rest.startswith(about)]
    return " ".join(found.split())


@pytest.mark.usefixtures("enough_files")
def test_a_machine_that_is_well_has_no_faults(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(postgres_running(data_dir)) as postgres,
        portal.wrap_async_context_manager(valkey_running(data_dir / "valkey")) as redis_url,
    ):
        portal.call(upgrade, postgres.endpoint.url())
        monkeypatch.setenv("INFRAWATCH_REDIS_URL", redis_url)
        well = doctor("--data-dir", str(data_dir))

    assert well.exit_code == 0, well.output
    assert "FAULT" not in well.output
    about = ("settings", "open files", "disk", "database", "version", "schema", "clock", "redis")
    for subject in about:
        assert f" {subject} " in well.output, subject

    stopped = doctor("--data-dir", str(data_dir))
    assert stopped.exit_code == 1
    assert said_of(stopped, "database").endswith("start it with `infrawatch up`.")


def test_before_the_first_start_there_is_no_fault_but_a_hint() -> None:
    first = doctor()
    assert first.exit_code == 0, first.output
    assert "`infrawatch up` makes one" in said_of(first, "database")


def test_a_setting_that_makes_no_sense_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRAWATCH_RETENTION", "soon")
    wrong = doctor()
    assert wrong.exit_code == 1
    assert "FAULT: settings INFRAWATCH_RETENTION: 'soon' is not" in said_of(wrong, "settings")
    assert "mend the settings first" in said_of(wrong, "database")


def test_a_file_of_settings_that_is_no_text_is_a_fault(somewhere_else: Path) -> None:
    (somewhere_else / ".env").write_bytes("# für alle\n".encode("latin-1"))
    wrong = doctor()
    assert wrong.exit_code == 1
    assert "FAULT: settings .env is not UTF-8, from its byte 3 on" in said_of(wrong, "settings")


def test_a_misspelled_setting_is_named_with_a_suggestion(
    somewhere_else: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRAWATCH_RETENTOIN", "3d")
    (somewhere_else / ".env").write_text("INFRAWATCH_WORKRES=2\n")
    mistyped = doctor()
    assert mistyped.exit_code == 0
    assert "There is no INFRAWATCH_RETENTOIN: did you mean INFRAWATCH_RETENTION?" in mistyped.output
    assert "There is no INFRAWATCH_WORKRES: did you mean INFRAWATCH_WORKERS?" in mistyped.output


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://a:secret@b/c", "is not a PostgreSQL URL"),
        ("postgresql://a:secret@127.0.0.1:1/c", "check INFRAWATCH_DATABASE_URL"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_fault(
    url: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRAWATCH_DATABASE_URL", url)
    away = doctor()
    assert away.exit_code == 1
    assert text in said_of(away, "database")
    assert "secret" not in away.output


@pytest.mark.usefixtures("database")
def test_a_database_that_is_as_it_should_be_is_no_fault() -> None:
    well = doctor()
    assert well.exit_code == 0, well.output
    assert said_of(well, "schema").startswith("ok")
    assert "one process needs none" in said_of(well, "redis")


@pytest.mark.parametrize(
    ("settings", "about", "text"),
    [
        ({"server_version_num": "140012"}, "version", "too old: upgrade it to 15"),
        ({"fsync": "off"}, "durability", "set fsync = on"),
        ({"full_page_writes": "off"}, "durability", "set full_page_writes = on"),
        ({"max_connections": "10"}, "connections", "raise its max_connections"),
    ],
)
def test_a_postgresql_that_does_not_fit_is_a_fault(
    settings: dict[str, str], about: str, text: str, database: str
) -> None:
    pretend(database, **{"fsync": "on", **settings})
    found = doctor()
    assert found.exit_code == 1
    assert said_of(found, about).startswith("FAULT")
    assert text in said_of(found, about)


async def test_it_counts_the_connections_that_a_server_may_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def noting_size(url: str, *, pool_size: int = 2, **more: Any) -> AsyncEngine:
        sizes.append(pool_size)
        return create_engine(url, pool_size=pool_size, **more)

    monkeypatch.setattr("infrawatch.store.database.create_engine", noting_size)
    async with serving(database_url):
        defaults = Settings(_env_file=None)
        counted = defaults.write_pool_size + defaults.read_pool_size + OTHER_CONNECTIONS
        assert sum(sizes) == counted


def test_a_standby_is_a_fault(database: str) -> None:
    shadow(database, "public.pg_is_in_recovery() RETURNS boolean", "SELECT true")
    assert "FAULT    database     It is a standby" in doctor().output


def test_a_role_that_may_make_no_tables_is_a_fault(database: str) -> None:
    refusing = "public.has_schema_privilege(name, text) RETURNS boolean"
    shadow(database, refusing, "SELECT false")
    assert "GRANT CREATE ON SCHEMA public TO" in said_of(doctor(), "privileges")


def test_a_role_that_cannot_see_other_sessions_is_reported_with_the_grant(database: str) -> None:
    assert " privileges " not in doctor().output
    shadow(database, "public.pg_has_role(name, text) RETURNS boolean", "SELECT false")
    told = said_of(doctor(), "privileges")
    assert told.startswith("warning")
    assert "GRANT pg_read_all_stats TO" in told


def test_another_schema_is_a_fault(database: str) -> None:
    execute(database, "UPDATE alembic_version SET version_num = '0000'")
    found = doctor()
    assert found.exit_code == 1
    assert "Run `infrawatch migrate` first." in said_of(found, "schema")


@pytest.mark.parametrize("sign", ["+", "-"])
def test_a_clock_that_differs_is_a_fault(sign: str, database: str) -> None:
    body = f"SELECT pg_catalog.clock_timestamp() {sign} interval '1 hour'"
    shadow(database, "public.clock_timestamp() RETURNS timestamptz", body)
    found = doctor()
    assert found.exit_code == 1
    assert "let both use NTP" in said_of(found, "clock")
    assert "3600 s" in said_of(found, "clock") or "3599 s" in said_of(found, "clock")


def test_a_redis_that_takes_a_second_to_answer_is_no_fault(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(valkey_running(data_dir)) as redis_url,
    ):
        monkeypatch.setenv("INFRAWATCH_REDIS_URL", redis_url)
        children = psutil.Process().children(recursive=True)
        [valkey] = [child for child in children if child.name() == "valkey-server"]
        valkey.suspend()
        Timer(1, valkey.resume).start()
        busy = doctor()

    assert said_of(busy, "redis") == "ok: redis It answers."


def test_a_redis_that_does_not_answer_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRAWATCH_REDIS_URL", "redis://127.0.0.1:1/0")
    away = doctor()
    assert away.exit_code == 1
    assert "check INFRAWATCH_REDIS_URL" in said_of(away, "redis")


@pytest.mark.parametrize(("free", "level"), [(GIB // 2, "FAULT"), (5 * GIB, "warning")])
def test_a_disk_that_fills_up_is_reported(
    free: int, level: str, somewhere_else: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (somewhere_else / ".infrawatch" / "spool").mkdir(parents=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(20 * GIB, 20 * GIB - free, free))
    found = doctor()
    assert found.exit_code == (level == "FAULT")
    assert said_of(found, "disk").startswith(level)
    assert "make room" in said_of(found, "disk")


@pytest.mark.parametrize(("files", "level"), [(512, "FAULT"), (2_048, "warning")])
def test_too_few_open_files_are_reported(
    files: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who lowers the hard limit cannot raise it again.
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, files))
    found = doctor()
    assert found.exit_code == (level == "FAULT")
    assert said_of(found, "open files").startswith(level)
    assert "LimitNOFILE" in said_of(found, "open files")

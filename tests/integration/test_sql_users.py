"""SQL users: a role of PostgreSQL sees what its tenant has, whatever it tries."""

import re
import subprocess
import uuid
from collections.abc import Iterator

import asyncpg
import pytest
import pytest_asyncio
from commands import infrawatch
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from keys import a_key, bearing
from pushing import now_ms

from infrawatch.access.sql_users import create_sql_user, drop_sql_user
from infrawatch.access.tenants import create_tenant
from infrawatch.embedded.binaries import find_binaries
from infrawatch.errors import AlreadyExists, Forbidden, NotFound
from infrawatch.model.timerange import from_us, now_us
from infrawatch.store.accounts.audit import Actor
from infrawatch.store.accounts.sql_users import to_user_url
from infrawatch.store.database import Database
from infrawatch.upkeep import compaction

OURS, THEIRS = "ours_metric", "zz_secret_metric"
SHOWN = {"series", "samples", "rollup_5m", "rollup_1h"}
DAY_MS = 86_400_000
THEIR_HOSTS = 500

LEAK = """
CREATE FUNCTION pg_temp.leak(anyelement) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled_url(shared_database_url: str) -> str:
    """Two tenants, with samples in every tier and rollups of them."""
    url = shared_database_url
    async with Database.open(url) as database:
        tenant = await create_tenant(database, "other", Actor("tests"))
        keys = {
            OURS: await a_key(url, "write"),
            THEIRS: await a_key(url, "write", tenant_id=tenant.id),
        }
        async with (
            serving(url, auth="required") as address,
            AsyncClient(base_url=address, timeout=30) as client,
        ):
            for day in (2, 0):
                for metric, key in keys.items():
                    await fill(client, metric, now_ms() - day * DAY_MS, bearing(key))
                if day:
                    await compaction.compact_until(database, from_us(now_us()))
                    await compaction.merge_until(database, compaction.closed_until())
    execute(url, "ANALYZE")
    return url


async def fill(client: AsyncClient, metric: str, at_ms: int, headers: dict[str, str]) -> None:
    series = [
        {"metric": metric, "labels": {"host": f"{metric}-{host}"}, "samples": [[at_ms, host]]}
        for host in range(3 if metric == OURS else THEIR_HOSTS)
    ]
    answer = await client.post("/v1/samples", json={"series": series}, headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def name() -> str:
    """Roles are of the whole server, which other tests share."""
    return f"t{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="module")
def user_url(filled_url: str, name: str) -> Iterator[str]:
    """The URL of an SQL user of the tenant `default`."""
    made = infrawatch("sql-users", "create", "--name", name, url=filled_url)
    assert made.returncode == 0, made.stderr
    yield made.stdout.strip()
    dropped = infrawatch("sql-users", "drop", "--name", name, url=filled_url)
    assert dropped.returncode == 0, dropped.stderr
    assert execute(filled_url, f"SELECT count(*) FROM pg_roles WHERE rolname ~ '{name}'") == "0"


def attempt(url: str, *statements: str) -> subprocess.CompletedProcess[str]:
    psql = find_binaries().program("psql")
    commands = [part for statement in statements for part in ("-c", statement)]
    return subprocess.run(
        [psql, url, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At", *commands],
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_sql_user_sees_its_tenant(user_url: str) -> None:
    assert execute(user_url, "SELECT count(*), count(DISTINCT series_id) FROM samples") == "6|3"
    assert execute(user_url, "SELECT string_agg(DISTINCT metric, ',') FROM series") == OURS
    since = "now() - interval '1 hour', now() + interval '1 hour'"
    assert execute(user_url, f"SELECT sum(value) FROM samples_between({since})") == "3"
    one = f"""labels @> '{{"host": "{OURS}-2"}}'"""
    assert execute(user_url, f"SELECT max(value), count(*) FROM samples WHERE {one}") == "2|2"
    for view in ("rollup_5m", "rollup_1h"):
        assert execute(user_url, f"SELECT sum(count), max(max) FROM {view}") == "6|2"
        lately = f"SELECT sum(count) FROM {view}_between(now() - interval '12 hours', now())"
        assert execute(user_url, lately) in {"3", ""}  # the bucket of now may begin after it


def test_an_sql_user_may_use_nothing_else(filled_url: str, user_url: str) -> None:
    tables = execute(
        filled_url,
        "SELECT oid::regclass FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S', 'm')",
    ).split()

    assert {"series", "journal", "api_keys", "sessions", "sql_users", "samples"} <= set(tables)
    for table in tables:
        refused = attempt(user_url, f"SELECT * FROM public.{table}")
        assert "permission denied" in refused.stderr, table
    for statement in (
        "SELECT * FROM public.samples_between('-infinity', 'infinity')",
        "INSERT INTO infrawatch_sql.series VALUES (1)",
        "CREATE TABLE infrawatch_sql.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "SET ROLE infrawatch",
        "SET SESSION AUTHORIZATION infrawatch",
        "ALTER ROLE CURRENT_USER CREATEROLE",
        "COPY samples TO PROGRAM 'cat'",
        "SELECT pg_read_file('PG_VERSION')",
        "SELECT lo_import('/etc/passwd')",
    ):
        assert attempt(user_url, "SET default_transaction_read_only = off", statement).returncode

    shown = "SELECT relname FROM pg_class WHERE relkind = 'v' AND relacl::text ~ current_user"
    assert set(execute(user_url, shown).split()) == SHOWN


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM series",
        "SELECT * FROM samples",
        "SELECT * FROM samples_between('-infinity', 'infinity')",
        "SELECT * FROM rollup_5m",
        "SELECT * FROM rollup_1h_between('-infinity', 'infinity')",
        "SELECT * FROM series_of_user()",
        # What PostgreSQL knows of the values in a column.
        "SELECT * FROM pg_stats WHERE schemaname <> 'pg_catalog'",
        "SELECT * FROM pg_stats_ext",
        "SELECT query FROM pg_stat_activity",
        # A function that tells what it is shown, and is cheap, so that it may be asked first.
        f"{LEAK}; SELECT count(*) FROM series WHERE pg_temp.leak(metric)",
        f"{LEAK}; SELECT count(*) FROM samples WHERE pg_temp.leak(metric) AND pg_temp.leak(labels)",
        f"{LEAK}; SELECT count(*) FROM samples WHERE pg_temp.leak(at) AND pg_temp.leak(series_id)",
        f"{LEAK}; SELECT count(*) FROM rollup_1h WHERE pg_temp.leak(metric)",
        # An error that tells a value.
        "SELECT metric::int FROM series",
        f"SELECT 1 / (metric <> '{THEIRS}')::int FROM series",
        # A temporary table in the place of the one that says who is whose.
        (
            "SET default_transaction_read_only = off; CREATE TEMP TABLE sql_users AS "
            "SELECT current_user AS role, n AS tenant_id FROM generate_series(1, 9) n; "
            "SET search_path = pg_temp, infrawatch_sql, public; SELECT * FROM samples"
        ),
    ],
)
def test_sql_users_see_no_data_of_another_tenant(user_url: str, statement: str) -> None:
    found = attempt(user_url, statement)

    told = (found.stdout + found.stderr).replace(statement, "")
    assert "secret" not in re.sub(r"^(LINE \d+:|STATEMENT:).*$", "", told, flags=re.MULTILINE)
    assert not re.search(r"\b50\d\b|\b100\d\b", told)  # how many series and samples they have
    assert "division by zero" not in told


def test_guessed_ids_of_another_tenant_give_no_access(filled_url: str, user_url: str) -> None:
    of = "SELECT array_agg(id) FROM (SELECT id FROM series WHERE metric = '{}' LIMIT 20) s"
    theirs, ours = [execute(filled_url, of.format(metric)) for metric in (THEIRS, OURS)]

    for function in ("samples_of", "rollup_5m_of", "rollup_1h_of"):
        rows = f"{function}(id, '-infinity', 'infinity')"
        counts = [
            int(execute(user_url, f"SELECT count(*) FROM unnest('{ids}'::bigint[]) id, {rows}"))
            for ids in (theirs, ours)
        ]
        assert counts[0] == 0
        assert counts[1] > 0


def test_plans_tell_no_counts_and_no_estimates(user_url: str) -> None:
    """Neither that rows were passed over, nor how many a statistic says there are."""
    explained = {
        metric: execute(
            user_url,
            "EXPLAIN (ANALYZE, VERBOSE, BUFFERS off, TIMING off, SUMMARY off) "
            f"SELECT * FROM samples WHERE metric = '{metric}'",
        )
        for metric in (THEIRS, "zz_no_such_metric")
    }

    plans = [plan.replace(metric, "") for metric, plan in explained.items()]
    assert plans[0] == plans[1]
    assert "Rows Removed by Filter: 3" in plans[0]  # its own
    assert "Seq Scan" not in plans[0]


async def test_sql_users_are_listed_and_recorded(filled_url: str, user_url: str, name: str) -> None:
    listed = infrawatch("sql-users", "list", url=filled_url)
    recorded = execute(filled_url, f"SELECT action FROM audit WHERE target = '{name}'")

    assert re.search(rf"^infrawatch_{name} +default ", listed.stdout, re.MULTILINE)
    password = re.search(r":([^:@]+)@", user_url)
    assert password is not None
    assert password[1] not in listed.stdout
    assert recorded == "sql_user.created"
    async with Database.open(filled_url, write_pool_size=1) as database:
        with pytest.raises(AlreadyExists, match="PostgreSQL has it already"):
            await create_sql_user(database, name, "default", Actor("tests"))
        with pytest.raises(NotFound, match="there is no SQL user 'nobody'"):
            await drop_sql_user(database, "nobody", Actor("tests"))
        with pytest.raises(NotFound, match="there is no tenant 'no'"):
            await create_sql_user(database, "x", "no", Actor("tests"))


def test_no_user_can_prevent_the_end_of_its_access(filled_url: str) -> None:
    """Roles that own something cannot be dropped, and everybody may create large objects."""
    name = f"t{uuid.uuid4().hex[:16]}"
    url = infrawatch("sql-users", "create", "--name", name, url=filled_url).stdout.strip()
    created = attempt(url, "SET default_transaction_read_only = off", "SELECT lo_create(0)")

    dropped = infrawatch("sql-users", "drop", "--name", name, url=filled_url)
    again = attempt(url, "SELECT 1")
    execute(filled_url, f"DROP OWNED BY infrawatch_{name}")
    execute(filled_url, f"DROP ROLE infrawatch_{name}")

    assert created.returncode == 0, created.stderr
    assert dropped.returncode == 0, dropped.stderr
    assert f"DROP OWNED BY infrawatch_{name}" in dropped.stderr
    assert "not permitted to log in" in again.stderr
    assert name not in infrawatch("sql-users", "list", url=filled_url).stdout


async def test_a_connected_user_is_dropped_with_its_temporary_tables(filled_url: str) -> None:
    name = f"t{uuid.uuid4().hex[:16]}"
    async with Database.open(filled_url, write_pool_size=1) as database:
        password = await create_sql_user(database, name, "default", Actor("tests"))
        connection = await asyncpg.connect(to_user_url(filled_url, name, password))
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute("CREATE TEMP TABLE t AS SELECT generate_series(1, 1000) AS n")
        await drop_sql_user(database, name, Actor("tests"))

    assert execute(filled_url, f"SELECT count(*) FROM pg_roles WHERE rolname ~ '{name}'") == "0"
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.execute("SELECT 1")


async def test_a_user_without_createrole_is_told_what_it_lacks(filled_url: str) -> None:
    role = f"poor_{uuid.uuid4().hex[:12]}"
    execute(filled_url, f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    execute(filled_url, f"GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    poor = re.sub(r"//[^@]+@", f"//{role}:p@", filled_url)

    async with Database.open(poor, write_pool_size=1) as database:
        with pytest.raises(Forbidden, match="needs CREATEROLE"):
            await create_sql_user(database, "x", "default", Actor("tests"))

    execute(filled_url, f"DROP OWNED BY {role}")
    execute(filled_url, f"DROP ROLE {role}")

"""The commands, run as a user runs them."""

import json
import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil
import pytest
from commands import infrawatch, rest_of, started, up
from conftest import execute
from scripted_server import eventually


async def test_up_starts_a_server_a_database_and_an_agent_for_this_machine(data_dir: Path) -> None:
    async with up(data_dir) as running:
        assert f"{running.url}/docs" in running.output
        assert f"Data      {data_dir}" in running.output
        assert await _is_ready(running.url)
        url = infrawatch("database-url", "--data-dir", data_dir).stdout.strip()
        assert url.partition("@")[2] in running.output
        assert url.partition("@")[0] not in running.output
        await eventually(lambda: execute(url, "SELECT count(*) > 0 FROM samples") == "t")


async def test_ctrl_c_stops_everything_in_order(data_dir: Path) -> None:
    async with up(data_dir) as running:
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert "postgres" in {child.name() for child in children}
        running.process.send_signal(signal.SIGINT)
        output = await rest_of(running.process)

    assert running.process.returncode == 0
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    log = _read_log(data_dir)
    assert "received fast shutdown request" in log
    assert log.rstrip().endswith("database system is shut down")


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: other systems have no such signal")
async def test_kill_9_leaves_no_postgres_and_the_next_start_has_the_data(data_dir: Path) -> None:
    async with up(data_dir, "--no-agent") as killed:
        url = infrawatch("database-url", "--data-dir", data_dir).stdout.strip()
        execute(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        children = psutil.Process(killed.process.pid).children(recursive=True)
        killed.process.kill()
        await killed.process.wait()
        await eventually(lambda: not any(child.is_running() for child in children))

    async with up(data_dir, "--no-agent"):
        assert infrawatch("database-url", "--data-dir", data_dir).stdout.strip() == url
        assert execute(url, "SELECT answer FROM kept") == "42"


def test_a_busy_port_is_one_sentence_that_names_the_option(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        refused = infrawatch("up", "--port", port, "--data-dir", data_dir)

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr == (
        f"infrawatch: Port {port} on 127.0.0.1 is in use by another program; "
        "choose one with --port.\n"
    )
    assert not data_dir.exists()


async def test_two_servers_run_side_by_side_but_not_on_the_same_data(data_dir: Path) -> None:
    async with up(data_dir / "a", "--no-agent") as a, up(data_dir / "b", "--no-agent") as b:
        assert a.url != b.url
        for running in (a, b):
            assert await _is_ready(running.url)
        refused = infrawatch("up", "--port", 0, "--data-dir", data_dir / "a")

    assert refused.returncode == 1
    assert f"in use by another infrawatch (process {a.process.pid})" in refused.stderr
    assert "--data-dir" in refused.stderr


async def test_commands_work_while_a_server_runs(data_dir: Path) -> None:
    async with up(data_dir, "--no-agent") as running:
        migrated = infrawatch("migrate", "--data-dir", data_dir)
        assert migrated.returncode == 0, migrated.stderr
        healthy = infrawatch("healthcheck", "--url", running.url)
        assert (healthy.returncode, healthy.stdout) == (0, "ready\n")
    away = infrawatch("healthcheck", "--url", running.url)
    assert away.returncode == 1
    assert "does not answer" in away.stderr


def test_migrate_needs_no_running_server(data_dir: Path) -> None:
    migrated = infrawatch("migrate", "--data-dir", data_dir)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert re.fullmatch(r"The database is at schema \d{4}\.\n", migrated.stdout)


@pytest.mark.parametrize(
    "command", [("database-url",), ("compact", "--all"), ("keys", "list"), ("sql-users", "list")]
)
def test_a_command_before_the_first_start_explains_what_to_do(
    command: Sequence[str], data_dir: Path
) -> None:
    refused = infrawatch(*command, "--data-dir", data_dir)
    assert refused.returncode == 1
    assert "infrawatch up" in refused.stderr
    assert not data_dir.exists()


async def test_serve_uses_an_external_database(database_url: str) -> None:
    arguments = ("serve", "--port", "0")
    async with started(arguments, r"InfraWatch serves \S+", url=database_url) as running:
        assert await _is_ready(running.output.split()[-1])


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("compact",), ("keys", "list")])
def test_a_command_requires_a_migrated_database(command: Sequence[str], postgres: str) -> None:
    refused = infrawatch(*command, url=postgres)
    assert refused.returncode == 1
    assert "infrawatch migrate" in refused.stderr


def test_serve_requires_a_database() -> None:
    refused = infrawatch("serve", "--port", 0)
    assert refused.returncode == 1
    assert "needs INFRAWATCH_DATABASE_URL" in refused.stderr


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("migrate",)])
@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("mysql://a:secret@b/c", "is not a PostgreSQL URL"),
        ("postgresql://a:secret@127.0.0.1:1/c", "cannot be reached"),
        ("postgresql://a:secret@{server}", "the user or the password is wrong (SQLSTATE 28P01)"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence(
    command: Sequence[str], url: str, what: str, postgres: str
) -> None:
    refused = infrawatch(*command, url=url.format(server=postgres.rpartition("@")[2]))
    assert refused.returncode == 1
    assert what in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "secret" not in refused.stderr


def test_without_authentication_nothing_is_open_to_other_machines(data_dir: Path) -> None:
    command = ("up", "--host", "0.0.0.0", "--port", 0, "--data-dir", data_dir)
    refused = infrawatch(*command, INFRAWATCH_AUTH="off")
    assert refused.returncode == 1
    assert "INFRAWATCH_AUTH=required" in refused.stderr


def test_a_setting_that_makes_no_sense_is_named() -> None:
    refused = infrawatch("up", INFRAWATCH_RETENTION="soon")
    assert refused.returncode == 1
    assert refused.stderr.startswith("infrawatch: INFRAWATCH_RETENTION: 'soon' is not")


def test_openapi_is_printed_without_a_server() -> None:
    printed = infrawatch("openapi")
    assert "/v1/samples" in json.loads(printed.stdout)["paths"]


def test_help_names_every_command() -> None:
    output = infrawatch("--help").stdout
    listed = set(re.findall(r"^\W ([a-z][a-z-]+) ", output, re.MULTILINE))
    single = {"up", "serve", "migrate", "agent", "watch", "compact", "database-url", "openapi"}
    groups = {"keys", "tenants", "limits", "password", "sessions", "sql-users"}
    assert listed == single | groups | {"healthcheck", "doctor"}


async def _is_ready(url: str) -> bool:
    async with httpx.AsyncClient(timeout=30) as client:
        return (await client.get(f"{url}/readyz")).status_code == 200


def _read_log(data_dir: Path) -> str:
    return "".join(path.read_text() for path in data_dir.glob("postgres-log/*.log"))

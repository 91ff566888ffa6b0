"""The supervisor keeps its promises to a real PostgreSQL."""

import asyncio
import os
import pwd
import signal
import socket
import stat
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from conftest import execute
from scripted_server import eventually

from infrawatch.embedded.binaries import find_binaries
from infrawatch.embedded.configuration import write_configuration
from infrawatch.embedded.endpoint import Endpoint
from infrawatch.embedded.home import Home, HomeInUse
from infrawatch.embedded.postgres import postgres_reachable, postgres_running
from infrawatch.embedded.processes import launch
from infrawatch.errors import CannotStart


async def test_it_is_a_postgresql_18_that_only_this_machine_reaches(data_dir: Path) -> None:
    async with postgres_running(data_dir) as postgres:
        url = postgres.endpoint.url()
        assert execute(url, "SHOW server_version").startswith("18.")
        assert execute(url, "SHOW listen_addresses") == "127.0.0.1"
        assert execute(url, "SHOW unix_socket_directories") == ""
        assert execute(url, "SHOW fsync") == "on"
        assert execute(url, "SELECT datcollate FROM pg_database WHERE datname = 'infrawatch'") == (
            "C"
        )


async def test_without_the_password_nobody_gets_in(data_dir: Path) -> None:
    async with postgres_running(data_dir) as postgres:
        wrong = postgres.endpoint._replace(password="wrong")
        # psql says "password authentication failed" and leaves with 2.
        with pytest.raises(Exception, match="exit status 2"):
            execute(wrong.url(), "SELECT 1")
        method = "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
        assert execute(postgres.endpoint.url(), method) == "scram-sha-256"


async def test_data_port_and_password_survive_a_restart(data_dir: Path) -> None:
    async with postgres_running(data_dir) as first:
        execute(first.endpoint.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    async with postgres_running(data_dir) as second:
        assert second.endpoint == first.endpoint
        assert execute(second.endpoint.url(), "SELECT answer FROM kept") == "42"


async def test_settings_of_alter_system_survive_a_restart(data_dir: Path) -> None:
    async with postgres_running(data_dir) as first:
        execute(first.endpoint.url(), "ALTER SYSTEM SET work_mem = '7MB'")
    async with postgres_running(data_dir) as second:
        assert execute(second.endpoint.url(), "SHOW work_mem") == "7MB"


async def test_any_directory_name_will_do(data_dir: Path) -> None:
    async with postgres_running(data_dir / 'it\'s a "dir" called $HOME') as postgres:
        assert execute(postgres.endpoint.url(), "SELECT 1") == "1"


async def test_a_second_one_on_the_same_directory_is_refused(data_dir: Path) -> None:
    async with postgres_running(data_dir):
        with pytest.raises(HomeInUse, match="--data-dir"):
            async with postgres_running(data_dir):
                pytest.fail("two of them run")


async def test_a_command_uses_a_running_postgresql(data_dir: Path) -> None:
    async with postgres_running(data_dir) as running, postgres_reachable(data_dir) as reached:
        assert reached == running


async def test_a_command_alone_starts_postgresql_temporarily(data_dir: Path) -> None:
    async with postgres_reachable(data_dir) as reached:
        assert execute(reached.endpoint.url(), "SELECT 1") == "1"
    assert not (reached.home.cluster / "postmaster.pid").exists()


async def test_a_cluster_of_another_version_is_refused(data_dir: Path) -> None:
    _write(data_dir / "postgres" / "PG_VERSION", "16\n")
    with pytest.raises(CannotStart, match="PostgreSQL 16, and this InfraWatch brings 18"):
        async with postgres_running(data_dir):
            pytest.fail("it runs")


async def test_a_cluster_of_another_user_is_left_alone(data_dir: Path) -> None:
    _write(data_dir / "PG_VERSION", "18\n")
    with pytest.raises(CannotStart, match="itself a data directory"):
        async with postgres_running(data_dir):
            pytest.fail("it runs")


async def test_it_is_started_again_when_it_dies(data_dir: Path) -> None:
    async with postgres_running(data_dir) as postgres:
        execute(postgres.endpoint.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
        first = _postmaster(postgres.home)
        os.kill(first, signal.SIGKILL)

        await eventually(lambda: _is_ready(postgres.home) and _postmaster(postgres.home) != first)

        assert execute(postgres.endpoint.url(), "SELECT answer FROM kept") == "42"


async def test_a_lost_password_is_replaced(data_dir: Path) -> None:
    async with postgres_running(data_dir) as first:
        pass
    (data_dir / "postgres.json").unlink()
    async with postgres_running(data_dir) as second:
        assert second.endpoint.password != first.endpoint.password
        assert execute(second.endpoint.url(), "SELECT 1") == "1"


async def test_a_port_taken_by_another_program_is_replaced_permanently(data_dir: Path) -> None:
    async with postgres_running(data_dir) as first:
        pass
    with socket.create_server(("127.0.0.1", first.endpoint.port)):
        async with postgres_running(data_dir) as second:
            assert second.endpoint.port != first.endpoint.port
            assert second.endpoint.password == first.endpoint.password
    async with postgres_running(data_dir) as third:
        assert third.endpoint == second.endpoint


async def test_a_configuration_it_cannot_start_with_is_shown(data_dir: Path) -> None:
    async with postgres_running(data_dir) as first:
        execute(first.endpoint.url(), "ALTER SYSTEM SET shared_preload_libraries = 'nothing_such'")
    with pytest.raises(CannotStart, match="nothing_such"):
        async with postgres_running(data_dir):
            pytest.fail("it runs")


async def test_a_full_disk_is_named(data_dir: Path) -> None:
    async with postgres_running(data_dir) as postgres:
        (postgres.home.path / "postgresql.conf.new").symlink_to("/dev/full")
    with pytest.raises(CannotStart, match=r"No space left on device\. Make room"):
        async with postgres_running(data_dir):
            pytest.fail("it runs")


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: other systems have no such signal")
async def test_it_stops_when_we_are_killed_and_the_next_start_recovers(data_dir: Path) -> None:
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", _HOLD, data_dir)
    home = Home.resolve(data_dir)
    await eventually(lambda: _is_ready(home))
    endpoint = Endpoint.find(home)
    assert endpoint is not None
    execute(endpoint.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    postmaster = psutil.Process(_postmaster(home))

    holder.kill()
    await holder.wait()
    async with postgres_running(data_dir) as next_one:
        assert _postmaster(home) != postmaster.pid
        assert execute(next_one.endpoint.url(), "SELECT answer FROM kept") == "42"
        await eventually(lambda: not postmaster.is_running())


async def test_a_postgresql_that_outlived_its_owner_is_stopped_first(data_dir: Path) -> None:
    """As on systems without a parent-death signal."""
    async with postgres_running(data_dir) as owned:
        pass
    home, binaries = owned.home, find_binaries()
    where = ("-D", home.cluster, "-p", str(owned.endpoint.port))
    command: list[str | Path] = [binaries.program("postgres"), *where, *write_configuration(home)]
    orphan = await launch(home, command, death_signal=signal.SIGURG)
    await eventually(lambda: _is_ready(home))

    async with postgres_running(data_dir) as next_one:
        assert await asyncio.wait_for(orphan.wait(), timeout=60) == 0
        assert next_one.endpoint == owned.endpoint


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: needs root, to see it given up")
async def test_root_does_not_run_it_as_root(data_dir: Path) -> None:
    async with postgres_running(data_dir) as postgres:
        nobody = pwd.getpwnam("nobody")
        process = psutil.Process(_postmaster(postgres.home))
        assert process.uids().real == process.uids().effective == nobody.pw_uid
        assert process.gids().real == nobody.pw_gid
        assert psutil.Process(process.pid).environ().keys() <= {"PATH", "LC_ALL", "TZ", "PGDATA"}
        assert (postgres.home.path / "postgres.json").stat().st_uid == 0
        assert stat.S_IMODE(postgres.home.path.stat().st_mode) == 0o711


_HOLD = textwrap.dedent(
    """
    import asyncio, pathlib, sys
    from infrawatch.embedded.postgres import postgres_running

    async def hold():
        async with postgres_running(pathlib.Path(sys.argv[1])):
            await asyncio.Event().wait()

    asyncio.run(hold())
    """
)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


def _is_ready(home: Home) -> bool:
    lines = _pid_file(home)
    return len(lines) == 8 and lines[7].strip() == "ready"


def _postmaster(home: Home) -> int:
    return int(_pid_file(home)[0])


def _pid_file(home: Home) -> list[str]:
    try:
        return (home.cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []

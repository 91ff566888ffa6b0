"""The database cluster: created once, checked for its version, freed of an orphaned server."""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT
from time import monotonic

import psutil
import structlog

from infrawatch.embedded.binaries import MAJOR_VERSION, Binaries, shell_safe
from infrawatch.embedded.endpoint import DATABASE, ROLE
from infrawatch.embedded.home import Home
from infrawatch.embedded.processes import run
from infrawatch.errors import CannotStart

# A fast shutdown writes a checkpoint first.
_ORPHAN_PATIENCE = timedelta(seconds=30)
_POLL_S = 0.02

log = structlog.get_logger()


async def create_cluster(home: Home, binaries: Binaries, password: str) -> None:
    """Create the cluster with one role and one database, completely or not at all."""
    unfinished = home.path / "postgres.new"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    home.give(unfinished)
    with shell_safe(binaries) as safe:
        initdb = safe.program("initdb")
        await run(home, [initdb, *_INITDB_OPTIONS, "--pgdata", unfinished])
    create = f"CREATE DATABASE {DATABASE} OWNER {ROLE}"
    await _run_sql(home, binaries, unfinished, [create, _password_statement(password)])
    unfinished.rename(home.cluster)


async def set_password(home: Home, binaries: Binaries, password: str) -> None:
    """Change the role's password in a cluster that is not running."""
    await _run_sql(home, binaries, home.cluster, [_password_statement(password)])


def check_version(home: Home) -> None:
    """Refuse a directory that this PostgreSQL cannot open.

    Raises:
        CannotStart: the directory was made by another version, or is not PostgreSQL's.
    """
    if (home.path / "PG_VERSION").exists():
        raise CannotStart(
            f"{home.path} is itself a data directory of some PostgreSQL. "
            "Choose a directory of InfraWatch's own with --data-dir."
        )
    if not home.cluster.exists():
        return
    try:
        version = (home.cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise CannotStart(
            f"{home.cluster} holds no PostgreSQL data. Move it away, or choose another "
            "directory with --data-dir."
        ) from None
    if version != MAJOR_VERSION:
        raise CannotStart(
            f"{home.cluster} was made by PostgreSQL {version}, and this InfraWatch brings "
            f"{MAJOR_VERSION}. Start it with the release that made it and carry the data over "
            "with pg_dump, or choose another directory with --data-dir."
        )


async def stop_orphan(home: Home) -> None:
    """Stop a PostgreSQL that outlived the infrawatch process that started it.

    The caller holds the home's lock, so a server that still runs here is an orphan.

    Raises:
        CannotStart: the server does not stop.
    """
    orphan = _find_orphan(home.cluster)
    if orphan is None:
        return
    log.info("stopping_orphan", pid=orphan.pid)
    for number in (SIGINT, SIGQUIT, SIGKILL):
        if await _is_gone_after(orphan, number):
            return
    raise CannotStart(
        f"The PostgreSQL that was left over in {home.cluster} does not stop: end process "
        f"{orphan.pid}, and start again."
    )


def _find_orphan(cluster: Path) -> psutil.Process | None:
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        process = psutil.Process(int(lines[0]))
        # The pid may have been reused; only an orphan has this cluster in its command line.
        return process if str(cluster) in process.cmdline() else None
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return None


async def _is_gone_after(orphan: psutil.Process, number: int) -> bool:
    try:
        orphan.send_signal(number)
        deadline = monotonic() + _ORPHAN_PATIENCE.total_seconds()
        while monotonic() < deadline:
            if not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE:
                return True
            await asyncio.sleep(_POLL_S)
    except psutil.NoSuchProcess:
        return True
    return False


_INITDB_OPTIONS = (
    f"--username={ROLE}",
    "--encoding=UTF8",
    # A sort order that no system library can change under an index.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    # For a server started by hand; InfraWatch starts it with its own pg_hba.conf.
    "--auth=reject",
    "--no-instructions",
)


async def _run_sql(
    home: Home, binaries: Binaries, cluster: Path, statements: Sequence[str]
) -> None:
    """Run statements in single-user mode, which needs no password and no port."""
    options = ["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic"]
    await run(
        home,
        [binaries.program("postgres"), "--single", "-D", cluster, *options, "postgres"],
        text="".join(f"{statement}\n" for statement in statements),
    )


def _password_statement(password: str) -> str:
    assert "'" not in password  # token_urlsafe has letters, digits, - and _
    return f"ALTER ROLE {ROLE} PASSWORD '{password}'"

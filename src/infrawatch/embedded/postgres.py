"""The embedded PostgreSQL: runs for as long as it is needed."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from signal import SIGINT, SIGQUIT
from time import monotonic

import structlog

from infrawatch.embedded.binaries import Binaries, find_binaries, reachable_binaries
from infrawatch.embedded.cluster import check_version, create_cluster, set_password, stop_orphan
from infrawatch.embedded.configuration import write_configuration
from infrawatch.embedded.endpoint import Endpoint, choose_port, is_free
from infrawatch.embedded.home import Home, HomeInUse
from infrawatch.embedded.processes import Keeper, become_ready, launch
from infrawatch.errors import CannotStart

# Fast: sessions are closed and a checkpoint is written. Immediate: the next start recovers.
_STOP_SIGNALS = (SIGINT, SIGQUIT)
_SLOW_START = timedelta(seconds=5)
_OTHER_START = timedelta(seconds=60)
_POLL_S = 0.01

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL that accepts connections at `endpoint`."""

    home: Home
    endpoint: Endpoint


@asynccontextmanager
async def postgres_running(data_dir: Path) -> AsyncGenerator[Postgres]:
    """Run the PostgreSQL of a data directory, created if necessary, until the block ends.

    If the server dies, it is restarted. If this process is killed, the server stops by itself
    (Linux), or is stopped by the next process that uses the directory.

    Raises:
        HomeInUse: another process runs the server.
        CannotStart: the server cannot be created or started; the message says why.
    """
    home = Home.resolve(data_dir)
    with home.locked():
        try:
            check_version(home)
            binaries = find_binaries()
            if home.account is not None:
                binaries = reachable_binaries(binaries, home.account, home.path)
            await stop_orphan(home)
            endpoint = await _prepare(home, binaries)
            home.give(home.logs)
            command = _command(home, binaries, endpoint)
        except OSError as error:
            raise home.unusable(error) from error
        keeper = Keeper("postgres", lambda: _start(home, command), _STOP_SIGNALS)
        async with keeper.keeping():
            yield Postgres(home, endpoint)


@asynccontextmanager
async def postgres_reachable(data_dir: Path) -> AsyncGenerator[Postgres]:
    """The PostgreSQL of a data directory: the running one, or else one run for this block.

    Raises:
        CannotStart: neither is available.
    """
    async with AsyncExitStack() as stack:
        try:
            postgres = await stack.enter_async_context(postgres_running(data_dir))
        except HomeInUse:
            postgres = await _other_process_postgres(Home.resolve(data_dir))
        yield postgres


async def _prepare(home: Home, binaries: Binaries) -> Endpoint:
    """Create cluster, port and password where missing, in an order that survives a crash."""
    endpoint = Endpoint.find(home)
    if endpoint is None:
        endpoint = Endpoint.choose()
        if home.cluster.exists():
            await set_password(home, binaries, endpoint.password)
        endpoint.keep(home)
    elif not is_free(endpoint.port):
        taken, endpoint = endpoint.port, endpoint._replace(port=choose_port())
        log.warning("port_taken", port=taken, now=endpoint.port, effect="the database URL changed")
        endpoint.keep(home)
    if not home.cluster.exists():
        await create_cluster(home, binaries, endpoint.password)
    return endpoint


def _command(home: Home, binaries: Binaries, endpoint: Endpoint) -> list[str | Path]:
    postgres = binaries.program("postgres")
    return [postgres, "-D", home.cluster, "-p", str(endpoint.port), *write_configuration(home)]


async def _start(home: Home, command: list[str | Path]) -> Process:
    with _start_log(home).open("wb") as output:
        process = await launch(home, command, death_signal=SIGINT, output=output.fileno())
    return await become_ready(process, _until_ready(home, process), _STOP_SIGNALS)


async def _until_ready(home: Home, process: Process) -> None:
    """Wait for as long as it takes: after a crash there may be gigabytes to replay."""
    patience = monotonic() + _SLOW_START.total_seconds()
    while not _is_ready(home, process.pid):
        if process.returncode is not None:
            raise CannotStart(f"PostgreSQL stopped while it was starting:\n{_log_tail(home)}")
        if monotonic() > patience:
            log.info("still_starting", name="postgres", reason="it replays what a crash left")
            patience = float("inf")
        await asyncio.sleep(_POLL_S)


async def _other_process_postgres(home: Home) -> Postgres:
    deadline = monotonic() + _OTHER_START.total_seconds()
    while monotonic() < deadline:
        endpoint = Endpoint.find(home)
        if endpoint is not None and _is_ready(home):
            return Postgres(home, endpoint)
        await asyncio.sleep(_POLL_S)
    raise CannotStart(
        f"Another infrawatch holds {home.path}, but its PostgreSQL does not become ready. "
        f"Its log is in {home.logs}."
    )


def _is_ready(home: Home, pid: int | None = None) -> bool:
    """Read the state where pg_ctl does, from the eight lines of postmaster.pid."""
    try:
        lines = (home.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    is_ready = [line.strip() for line in lines[7:]] == ["ready"]
    return is_ready and pid in (None, int(lines[0]))


def _start_log(home: Home) -> Path:
    """The server's output until its log collector runs."""
    return home.path / "postgres-start.log"


def _log_tail(home: Home) -> str:
    path = _start_log(home)
    if "logging collector" in path.read_text(encoding="utf-8", errors="replace"):
        path = max(home.logs.glob("*.log"), key=lambda one: one.stat().st_mtime, default=path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([*lines[-10:], f"(from {path})"])

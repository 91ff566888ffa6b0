"""`infrawatch doctor`: finds problems of an installation, and says how to fix them."""

import os
import resource
import shutil
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import typer
from dotenv import dotenv_values

from infrawatch.cli.database import find_configured_url
from infrawatch.cli.options import DataDir, read_settings
from infrawatch.cli.running import run_until_stopped
from infrawatch.embedded.endpoint import Endpoint
from infrawatch.embedded.home import Home
from infrawatch.errors import CannotStart, InfraWatchError, Unavailable
from infrawatch.settings import AgentSettings, LogSettings, Settings
from infrawatch.store.database import Database
from infrawatch.store.inspection import Facts, InspectionRepository
from infrawatch.store.schema import find_difference, find_revision

OK, WARNING, FAULT = "ok", "warning", "FAULT"

OLDEST, NEWEST = 15, 18
"""Versions of PostgreSQL that the tests run on."""

OTHER_CONNECTIONS = 8
"""Of each server process, in addition to those in the settings: for upkeep, and for keys."""

ACCESS_CONNECTIONS = 2
MAX_SKEW = timedelta(seconds=2)
GIB = 1024**3
MIN_FREE_BYTES = GIB
ENOUGH_FREE_BYTES = 10 * GIB
MIN_FILES, ENOUGH_FILES = 1_024, 8_192
"""Every sender and every viewer takes one."""

KINDS = (Settings, AgentSettings, LogSettings)


class Finding(NamedTuple):
    level: str
    about: str
    text: str


def doctor(data_dir: DataDir = None) -> None:
    """Check what InfraWatch needs, as it is configured here; each line says what to do.

    Exits with 1 if there is a fault. Changes nothing and starts nothing.
    """
    levels: list[str] = []

    async def look() -> None:
        async for finding in _findings(data_dir):
            print(f"{finding.level:<8} {finding.about:<12} {finding.text}", flush=True)
            levels.append(finding.level)

    run_until_stopped(look())
    if FAULT in levels:
        raise typer.Exit(1)


async def _findings(data_dir: Path | None) -> AsyncGenerator[Finding, None]:
    faults = list(dict.fromkeys((*_settings(), *_names())))
    for finding in faults or [Finding(OK, "settings", "All make sense.")]:
        yield finding
    for finding in _files():
        yield finding
    if any(finding.level == FAULT for finding in faults):
        yield Finding(FAULT, "database", "Not looked at: mend the settings first.")
        return
    settings = read_settings(Settings, data_dir=data_dir)
    for finding in _disks(settings):
        yield finding
    async for finding in _database(settings):
        yield finding
    yield await _redis(settings)


def _settings() -> Iterator[Finding]:
    for kind in KINDS:
        try:
            read_settings(kind)
        except CannotStart as error:
            yield Finding(FAULT, "settings", f"{error}. .env.example says what each may be.")


def _names() -> Iterator[Finding]:
    """Find unknown INFRAWATCH_ variables, which are mostly misspelled."""
    known = {f"INFRAWATCH_{name.upper()}" for kind in KINDS for name in kind.model_fields}
    try:
        written = dotenv_values(".env")
    except UnicodeDecodeError:  # a fault of the settings
        written = {}
    given = {name.upper() for name in (*os.environ, *written)}
    for name in sorted(given - known):
        if name.startswith("INFRAWATCH_"):
            close = get_close_matches(name, known, n=1)
            advice = f"did you mean {close[0]}?" if close else "remove it."
            yield Finding(WARNING, "settings", f"There is no {name}: {advice}")


def _files() -> Iterator[Finding]:
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # the server raises its limit to this
    if limit in range(ENOUGH_FILES):
        yield Finding(
            FAULT if limit < MIN_FILES else WARNING,
            "open files",
            f"{limit} at most, and every sender and viewer takes one: `ulimit -Hn 65536`, or "
            "LimitNOFILE=65536 in the systemd unit.",
        )
    else:
        yield Finding(OK, "open files", "Enough for thousands of senders and viewers.")


def _disks(settings: Settings) -> Iterator[Finding]:
    """Check the disks of the embedded PostgreSQL and the agent, if they have files here."""
    agent = read_settings(AgentSettings)
    for path in (Home.resolve(settings.data_dir).path, agent.spool_dir):
        if not path.exists():
            continue
        free = shutil.disk_usage(path).free
        if free >= ENOUGH_FREE_BYTES:
            yield Finding(OK, "disk", f"{free / GIB:.0f} GiB are free for {path}.")
        else:
            yield Finding(
                FAULT if free < MIN_FREE_BYTES else WARNING,
                "disk",
                f"{free / GIB:.1f} GiB are free for {path}: make room, move it to a larger disk, "
                "or keep samples for a shorter time (INFRAWATCH_RETENTION).",
            )


async def _database(settings: Settings) -> AsyncGenerator[Finding, None]:
    try:
        url = find_configured_url(settings)
        endpoint = None if url else Endpoint.find(Home.resolve(settings.data_dir))
    except CannotStart as error:
        yield Finding(FAULT, "database", str(error))
        return
    if url is None and endpoint is None:
        yield Finding(
            WARNING,
            "database",
            "There is none yet: `infrawatch up` makes one, or set INFRAWATCH_DATABASE_URL.",
        )
        return
    what_to_do = (
        "start it with `infrawatch up`"
        if url is None
        else "check INFRAWATCH_DATABASE_URL, and that its server runs"
    )
    try:
        async with Database.open(url or endpoint.url()) as database:  # type: ignore[union-attr]
            async for finding in _check(database, settings):
                yield finding
    except Unavailable as error:
        yield Finding(FAULT, "database", f"{error}: {what_to_do}.")


async def _check(database: Database, settings: Settings) -> AsyncGenerator[Finding, None]:
    async with database.reading() as connection:
        inspection = InspectionRepository(connection)
        facts = await inspection.facts()
        before = datetime.now(UTC)
        theirs = await inspection.clock()
        after = datetime.now(UTC)
    yield Finding(OK, "database", f"It answers, and holds {facts.size_bytes / GIB:.2f} GiB.")
    yield _version(facts)
    for finding in _configuration(facts, settings):
        yield finding
    difference = find_difference(await find_revision(database))
    level = FAULT if difference else OK
    yield Finding(level, "schema", difference or "It is the one this version speaks.")
    yield _clock(theirs - after, theirs - before)


def _version(facts: Facts) -> Finding:
    major = facts.version // 10_000
    if major < OLDEST:
        text = f"PostgreSQL {facts.version_name} is too old: upgrade it to {OLDEST} or newer."
        return Finding(FAULT, "version", text)
    if major > NEWEST:
        text = f"PostgreSQL {facts.version_name} is newer than what is tested ({NEWEST})."
        return Finding(WARNING, "version", text)
    return Finding(OK, "version", f"PostgreSQL {facts.version_name}.")


def _configuration(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if facts.is_standby:
        text = "It is a standby, which takes no samples: name the primary in the URL."
        yield Finding(FAULT, "database", text)
    for name, is_on in (("fsync", facts.syncs), ("full_page_writes", facts.writes_full_pages)):
        if not is_on:
            text = f"{name} is off, so a crash loses what was acknowledged: set {name} = on."
            yield Finding(FAULT, "durability", text)
    if not facts.may_create:
        text = f"It may make no tables: GRANT CREATE ON SCHEMA {facts.schema} TO {facts.user}."
        yield Finding(FAULT, "privileges", text)
    if not facts.sees_others:
        yield Finding(
            WARNING,
            "privileges",
            "It does not see how long others have been reading, and a query of theirs that takes "
            "longer than INFRAWATCH_REPLAY_WINDOW may lack samples: let a superuser "
            f"GRANT pg_read_all_stats TO {facts.user}.",
        )
    pools = settings.write_pool_size + settings.read_pool_size
    needed = (pools + OTHER_CONNECTIONS + ACCESS_CONNECTIONS) * settings.workers
    if needed > facts.connections:
        yield Finding(
            FAULT,
            "connections",
            f"These servers may need {needed}, and PostgreSQL has {facts.connections}: raise its "
            "max_connections, or lower INFRAWATCH_READ_POOL_SIZE or INFRAWATCH_WORKERS.",
        )


def _clock(lower: timedelta, upper: timedelta) -> Finding:
    """Check the clock, which is ahead of the local one by an amount between the two bounds."""
    skew = min(abs(lower), abs(upper))
    if skew > MAX_SKEW and (lower > timedelta()) == (upper > timedelta()):
        text = f"The database's differs by {skew.total_seconds():.0f} s: let both use NTP."
        return Finding(FAULT, "clock", text)
    return Finding(OK, "clock", "It agrees with the database's.")


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding(OK, "redis", "None is configured; one process needs none.")
    from infrawatch.live.redis_nodes import ping  # noqa: PLC0415  # redis-py is slow to import

    try:
        await ping(settings.redis_url.get_secret_value())
    except InfraWatchError as error:
        text = f"{error}: check INFRAWATCH_REDIS_URL. Until then live views are a little later."
        return Finding(FAULT, "redis", text)
    return Finding(OK, "redis", "It answers.")

"""The spool: stores batches on disk before they are sent, until the server has them."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self

import structlog

from infrawatch.agent.batches import Body
from infrawatch.agent.once_per_minute import OncePerMinute
from infrawatch.errors import CannotStart

log = structlog.get_logger(__name__)

_FILE = "spool.sqlite3"
_LOCK_TIMEOUT_S = 1.0  # an agent being replaced may need a moment to release it
_HELD_BATCHES = 12  # a minute's worth: enough to report a full disk, little memory
_VACUUM_PAGES = 1024  # 4 MiB: worth giving back to the file system

_PRAGMAS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 4194304;
"""
# AUTOINCREMENT: an id is never used again, so settling a batch that was dropped meanwhile
# cannot remove a newer one.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    samples INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS lost (
    how TEXT NOT NULL,
    code TEXT NOT NULL,
    samples INTEGER NOT NULL,
    PRIMARY KEY (how, code)
);
"""
_SUMS = "SELECT count(*), ifnull(sum(samples), 0), ifnull(sum(length(body)), 0) FROM batches"
_OLDEST_SIZES = "SELECT id, length(body) FROM batches ORDER BY id"
_NEWEST = "SELECT id, samples, body FROM batches ORDER BY id DESC LIMIT 1"
_OLDEST = "SELECT id, samples, body FROM batches ORDER BY id"
_THESE = "WHERE id IN (SELECT value FROM json_each(?))"
_SUMS_OF_THESE = f"{_SUMS} {_THESE}"
_DELETE_THESE = f"DELETE FROM batches {_THESE}"  # noqa: S608  # two constants
_INSERT = "INSERT INTO batches (samples, body) VALUES (?, ?)"
_COUNT = """
INSERT INTO lost (how, code, samples) VALUES (?, ?, ?)
ON CONFLICT (how, code) DO UPDATE SET samples = samples + excluded.samples
"""


class Batch(NamedTuple):
    """A spooled batch; a negative id means that it is in memory only."""

    id: int
    samples: int
    body: bytes


class Loss(NamedTuple):
    """Why samples never reached the store: `dropped` for lack of room, or `refused` with a code."""

    how: str
    code: str = ""


DROPPED = Loss("dropped")


@dataclass(frozen=True, slots=True)
class Usage:
    """The size of the spool; `bytes` counts only the batches, and the file is a little larger."""

    batches: int = 0
    samples: int = 0
    bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.batches + other.batches, self.samples + other.samples, self.bytes + other.bytes
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return self + Usage(-other.batches, -other.samples, -other.bytes)


class Spool:
    """Keeps at most `limit_bytes` of batches; to make room it drops the oldest and counts them.

    Every change is on disk (fsynced) when its method returns, so that nothing is lost to
    `kill -9` or a power cut; samples lost otherwise are counted permanently. Methods block,
    and may be called from any thread. A disk that cannot be written does not stop the agent:
    the newest batches are then held in memory and sent from there.
    """

    def __init__(self, connection: sqlite3.Connection, *, limit_bytes: int) -> None:
        self._connection = connection
        self._limit_bytes = limit_bytes
        self._lock = Lock()
        self._once_per_minute = OncePerMinute()
        self._held: list[Batch] = []
        self._held_ever = 0
        self._stored = Usage(*connection.execute(_SUMS).fetchone())
        rows = connection.execute("SELECT how, code, samples FROM lost")
        self._recorded = Counter({Loss(how, code): samples for how, code, samples in rows})
        self._unrecorded: Counter[Loss] = Counter()

    @classmethod
    def open(cls, directory: Path, *, limit_bytes: int) -> Self:
        """Open the spool in this directory, or create it.

        A damaged file is set aside, so that the agent starts.

        Raises:
            CannotStart: the directory cannot be written, or another agent uses it.
        """
        path = directory / _FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            try:
                return cls._open(path, limit_bytes)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # in use, or not writable
                    raise
                log.exception("spool_damaged", set_aside=f"{path}.damaged")
                # A log left behind would be replayed into the new file.
                for file in filter(Path.exists, (path, Path(f"{path}-wal"))):
                    file.replace(f"{file}.damaged")
                return cls._open(path, limit_bytes)
        except (OSError, sqlite3.Error) as error:
            raise CannotStart(
                f"cannot spool in {directory} ({error}): give each agent a directory of its own "
                "that it may write, with --spool-dir"
            ) from error

    @classmethod
    def _open(cls, path: Path, limit_bytes: int) -> Self:
        connection = sqlite3.connect(
            path, timeout=_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.executescript(_PRAGMAS + _SCHEMA)
            return cls(connection, limit_bytes=limit_bytes)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @property
    def usage(self) -> Usage:
        held = (_usage_of(batch.samples, batch.body) for batch in self._held)
        return sum(held, self._stored)

    @property
    def lost_samples(self) -> Counter[Loss]:
        """The samples lost since the spool was created, including before restarts."""
        with self._lock:
            return self._recorded + self._unrecorded

    def add(self, bodies: Iterable[Body]) -> None:
        """Add batches, as the newest of the spool."""
        with self._lock:
            for body in bodies:
                try:
                    self._store(body)
                except sqlite3.Error as error:
                    self._hold(body, error)

    def next_batches(self, max_batches: int, *, max_samples: int) -> list[Batch]:
        """The batches to send together, oldest first; empty if there is nothing to send.

        The newest is always included, so that dashboards are current while the oldest ones
        catch up beside it.

        Raises:
            sqlite3.Error: the disk cannot be read.
        """
        with self._lock:
            if self._held:
                return self._held[-max_batches:]
            newest = [Batch(*row) for row in self._connection.execute(_NEWEST)]
            chosen: list[Batch] = []
            room = max_samples - sum(batch.samples for batch in newest)
            for row in self._connection.execute(_OLDEST):
                batch = Batch(*row)
                room -= batch.samples
                if len(chosen) + 1 >= max_batches or room < 0 or batch.id == newest[0].id:
                    break
                chosen.append(batch)
            return chosen + newest

    def settle(self, batches: Sequence[Batch], *, refused: Mapping[str, int]) -> None:
        """Remove batches that the server has or will never accept; count the samples it refused.

        Raises:
            sqlite3.Error: the disk cannot be written; the batches are still there.
        """
        losses = Counter({Loss("refused", code): samples for code, samples in refused.items()})
        with self._lock:
            self._replace(batches, (), losses)

    def replace(self, batch: Batch, parts: Sequence[Body]) -> None:
        """Replace a batch by its parts.

        Raises:
            sqlite3.Error: the disk cannot be written; the batch is still there.
        """
        with self._lock:
            self._replace([batch], parts, Counter())

    def _store(self, body: Body) -> None:
        with self._writing() as losses:
            dropped = self._delete(self._ids_to_drop(len(body.json_gzip)))
            losses[DROPPED] += dropped.samples
            self._connection.execute(_INSERT, body)
        self._stored += _usage_of(*body) - dropped
        if dropped.samples and self._once_per_minute(DROPPED):
            log.warning("spool_full", limit_bytes=self._limit_bytes, dropped=dropped.samples)

    def _hold(self, body: Body, error: sqlite3.Error) -> None:
        if self._once_per_minute(str(error)):
            log.error("spool_failed", error=str(error), hint="the newest batches stay in memory")
        held = [*self._held, self._in_memory(body)]
        self._unrecorded[DROPPED] += sum(batch.samples for batch in held[:-_HELD_BATCHES])
        self._held = held[-_HELD_BATCHES:]

    def _in_memory(self, body: Body) -> Batch:
        self._held_ever += 1
        return Batch(-self._held_ever, *body)

    def _replace(
        self, batches: Sequence[Batch], parts: Sequence[Body], losses: Counter[Loss]
    ) -> None:
        ids = [batch.id for batch in batches]
        if ids[0] < 0:  # held in memory only; the disk may be full
            self._unrecorded += losses
            rest = [batch for batch in self._held if batch.id not in ids]
            self._held = rest + [self._in_memory(part) for part in parts]
            return
        with self._writing() as counted:
            counted.update(losses)
            removed = self._delete(ids)
            self._connection.executemany(_INSERT, parts)
        added = sum((_usage_of(*part) for part in parts), Usage())
        self._stored += added - removed
        self._shrink()

    def _ids_to_drop(self, needed_bytes: int) -> list[int]:
        missing_bytes = self._stored.bytes + needed_bytes - self._limit_bytes
        ids: list[int] = []
        for id_, size in self._connection.execute(_OLDEST_SIZES):
            if missing_bytes <= 0:
                break
            missing_bytes -= size
            ids.append(id_)
        return ids

    def _delete(self, ids: Sequence[int]) -> Usage:
        these = [json.dumps(ids)]
        removed = Usage(*self._connection.execute(_SUMS_OF_THESE, these).fetchone())
        self._connection.execute(_DELETE_THESE, these)
        return removed

    @contextmanager
    def _writing(self) -> Iterator[Counter[Loss]]:
        """One transaction; losses added to the yielded counter are recorded in it."""
        losses = self._unrecorded.copy()
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield losses
            rows = [(*loss, samples) for loss, samples in losses.items() if samples]
            self._connection.executemany(_COUNT, rows)
        self._recorded += losses
        self._unrecorded = Counter()

    def _shrink(self) -> None:
        """Once the spool is empty, return the file's pages to the file system."""
        if self._stored.batches == 0:
            [free_pages] = self._connection.execute("PRAGMA freelist_count").fetchone()
            if free_pages > _VACUUM_PAGES:
                # `execute` would stop after the first page.
                self._connection.executescript("PRAGMA incremental_vacuum")


def _usage_of(samples: int, body: bytes) -> Usage:
    return Usage(1, samples, len(body))

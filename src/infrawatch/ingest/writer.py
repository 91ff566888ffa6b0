"""Group commit: batches that wait at the same time are committed together."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import NamedTuple, TypeVar

import structlog

from infrawatch.errors import (
    DeadlineExceeded,
    InfraWatchError,
    Overloaded,
    ShuttingDown,
    StoreRefusal,
    StoreUnavailable,
)
from infrawatch.ingest.scheduling.fair_queue import FairQueue
from infrawatch.model.samples import Columns
from infrawatch.model.timerange import from_us
from infrawatch.store.database import Database
from infrawatch.store.journal import Entry, JournalRepository
from infrawatch.store.writers import Fenced, WriterRepository
from infrawatch.telemetry import Telemetry

log = structlog.get_logger()

T = TypeVar("T")

GATHER_S = 0.005
"""How long a group waits for the senders of the previous one: no longer than a commit on most
disks. A transaction of any size costs server and database half a millisecond of CPU each."""

LATE_S = 2.0
"""A group that PostgreSQL starts on later than this after it was sent is not stored: meanwhile its
sender may have sent the batch to another server, and then corrections, which the group would
replace. Compaction may delay a group by one second."""

OnCommitted = Callable[[Entry], None]
"""Called with every committed group, in order; must neither block nor raise."""


class Commit(NamedTuple):
    """The writer's `seq`-th commit, which began at `at_us` on the database's clock."""

    writer: int
    seq: int
    at_us: int


class _OutcomeUnknown(StoreUnavailable):
    """A group was sent, but PostgreSQL did not respond."""


class _WriterState(NamedTuple):
    """A writer that this process holds, and the seq of its next commit.

    `clock` is a lower bound of the database's clock when the local clock read `read_s`.
    """

    writer: int
    seq: int
    clock: datetime
    read_s: float

    def latest(self) -> datetime:
        """The latest start of a group that is sent now, on the database's clock."""
        return self.clock + timedelta(seconds=monotonic() - self.read_s + LATE_S)


@dataclass(slots=True, eq=False)
class _Waiting:
    columns: Columns
    committed: asyncio.Future[Commit] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class GroupWriter:
    """`write` returns once its batch is on disk; `run` is the only task that commits.

    While one group is being committed, the next one gathers, so a slow disk makes groups larger,
    not queues longer. If several senders shared the last group, the next one waits up to
    `GATHER_S` for as many batches; a lone sender never waits. When the waiting batches exceed one
    group, tenants take turns, one batch each, so no tenant waits for all the batches of another.

    The backlog is counted in samples, because samples fill memory. A full backlog is refused at
    once, because a sender that is kept waiting times out and sends again.
    """

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        *,
        backlog_samples: int,
        group_samples: int,
        deadline: timedelta,
        on_committed: OnCommitted,
    ) -> None:
        self._database = database
        self._on_committed = on_committed
        self._telemetry = telemetry
        self._backlog_samples = backlog_samples
        self._group_samples = group_samples
        self._deadline_s = deadline.total_seconds()
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._shared_by = 1
        self._arrived = asyncio.Event()
        self._is_closed = False
        self._waiting_samples = 0
        self._state: _WriterState | None = None
        self._failures = 0
        telemetry.sample(telemetry.backlog_samples, lambda: self._waiting_samples)

    @contextmanager
    def room_for(self, samples: int) -> Generator[None, None, None]:
        """Count a batch towards the backlog for the duration of the block.

        Raises:
            Overloaded: the backlog is full.
            ShuttingDown
        """
        if self._is_closed:
            raise _shutting_down()
        # A batch larger than the backlog is admitted if nothing else waits: otherwise it never is.
        if self._waiting_samples and self._waiting_samples + samples > self._backlog_samples:
            raise Overloaded(f"{self._waiting_samples} samples wait already; send again shortly")
        self._waiting_samples += samples
        try:
            yield
        finally:
            self._waiting_samples -= samples

    async def write(self, tenant_id: int, columns: Columns) -> Commit:
        """Store the whole batch or nothing; call it within `room_for`.

        If the caller is cancelled, a batch that is not yet being committed is dropped.

        Raises:
            ShuttingDown: nothing was stored.
            StoreUnavailable: the batch may or may not be stored; retrying is safe.
        """
        if self._is_closed:
            raise _shutting_down()
        waiting = _Waiting(columns)
        self._queue.append(tenant_id, waiting)
        self._arrived.set()
        try:
            return await waiting.committed
        except asyncio.CancelledError:
            self._queue.remove(tenant_id, waiting)  # unless it is being committed
            raise

    async def run(self) -> None:
        """Commit until `close` is called, then commit the batches that still wait."""
        try:
            while self._queue or not self._is_closed:
                if group := await self._next_group():
                    await self._store(group)
        finally:  # after a crash, no caller may be left waiting
            self.close()
            self._settle(self._queue.drain(), ShuttingDown("the writer stopped"))

    def close(self) -> None:
        """Take no more batches."""
        self._is_closed = True
        self._arrived.set()

    async def _next_group(self) -> list[_Waiting]:
        """Take the waiting batches, up to the size of a group.

        Empty once closed and drained, and if all callers are cancelled while the group gathers.
        """
        await self._until_waiting(1)
        if self._shared_by > len(self._queue):
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._until_waiting(self._shared_by)
        group: list[_Waiting] = []
        samples = 0
        while self._queue and (not group or samples < self._group_samples):
            group.append(self._queue.popleft())
            samples += len(group[-1].columns)
        self._shared_by = len(group)
        return group

    async def _until_waiting(self, batches: int) -> None:
        while len(self._queue) < batches and not self._is_closed:
            self._arrived.clear()
            await self._arrived.wait()

    async def _store(self, group: Sequence[_Waiting]) -> None:
        columns = Columns.joined([waiting.columns for waiting in group])
        started = monotonic()
        outcome: Commit | InfraWatchError
        try:
            outcome = await self._commit(columns)
        except InfraWatchError as error:
            outcome = error
            self._note_failure(error)
        except BaseException:
            self._settle(group, StoreUnavailable("the writer failed; send the batch again"))
            raise
        self._telemetry.commit_seconds.observe(monotonic() - started)
        self._telemetry.group_samples.observe(len(columns))
        if isinstance(outcome, Commit):
            self._on_committed(Entry(*outcome, columns))
            self._note_success()
        self._settle(group, outcome)

    def _note_failure(self, error: InfraWatchError) -> None:
        """Log only the first failure of an outage: while it lasts, every retry fails again."""
        self._telemetry.groups_failed.inc()
        self._failures += 1
        if self._failures == 1:
            log.warning("commits_fail", code=error.code, reason=str(error))

    def _note_success(self) -> None:
        if self._failures:
            log.warning("commits_succeed_again", groups_failed=self._failures)
            self._failures = 0

    async def _commit(self, columns: Columns) -> Commit:
        """Commit one group; if the outcome of an attempt is unknown, determine it."""
        state = self._state
        if state is None:
            state = await self._within_deadline(self._register)
        self._state = None  # held again only once the outcome of the commit is known
        try:
            return await self._attempt(state, columns)
        except _OutcomeUnknown:
            log.warning("commit_outcome_unknown", writer=state.writer, seq=state.seq)
            commit = await self._within_deadline(lambda: self._find_out(state, columns))
            if commit is not None:
                return commit
        except Fenced:
            log.warning("writer_was_fenced", writer=state.writer)
        try:
            return await self._attempt(await self._within_deadline(self._register), columns)
        except Fenced as error:
            raise StoreUnavailable("not committed: PostgreSQL began too late") from error

    async def _attempt(self, state: _WriterState, columns: Columns) -> Commit:
        is_sent = False
        try:
            async with asyncio.timeout(self._deadline_s), self._database.committing() as connection:
                is_sent = True
                at_us = await JournalRepository(connection).append(
                    state.writer, state.seq, columns, not_after=state.latest()
                )
        except (StoreUnavailable, DeadlineExceeded, TimeoutError) as error:
            if is_sent and not isinstance(error, StoreRefusal | DeadlineExceeded):
                raise _OutcomeUnknown("PostgreSQL went away while committing") from error
            self._state = state  # nothing was committed, so the seq is free
            raise StoreUnavailable(f"not committed: {str(error) or 'too slow'}") from error
        self._state = _WriterState(state.writer, state.seq + 1, from_us(at_us), monotonic())
        return Commit(state.writer, state.seq, at_us)

    async def _find_out(self, state: _WriterState, columns: Columns) -> Commit | None:
        """Fence the writer, and return the group's commit; None if it was not committed."""
        async with self._database.writing() as connection:
            if await WriterRepository(connection).fence(state.writer) < state.seq:
                return None
            journal = JournalRepository(connection)
            at_us = await journal.find_arrival(state.writer, state.seq, columns)
            return Commit(state.writer, state.seq, at_us)

    async def _register(self) -> _WriterState:
        async with self._database.writing() as connection:
            writer, clock = await WriterRepository(connection).register()
        return _WriterState(writer, 1, clock, monotonic())

    async def _within_deadline(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await work()
        except TimeoutError as error:
            raise StoreUnavailable("PostgreSQL does not answer; send again shortly") from error

    def _settle(self, group: Iterable[_Waiting], outcome: Commit | InfraWatchError) -> None:
        for waiting in group:
            if waiting.committed.done():  # its caller was cancelled
                continue
            if isinstance(outcome, Commit):
                waiting.committed.set_result(outcome)
            else:
                waiting.committed.set_exception(outcome)
                # Mark it as retrieved, because the caller may be cancelled before it awaits it.
                waiting.committed.exception()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the server is shutting down; send to another, or again shortly")

"""Worker processes that share a port and are kept running."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from signal import SIGHUP, SIGTERM
from tempfile import TemporaryDirectory

import structlog
from prometheus_client.multiprocess import mark_process_dead

from infrawatch.client.loopback import local_url
from infrawatch.embedded import launcher
from infrawatch.embedded.processes import Keeper, become_ready
from infrawatch.errors import CannotStart
from infrawatch.server.serving import listen
from infrawatch.settings import Settings
from infrawatch.telemetry import SHARED_DIRECTORY

log = structlog.get_logger()

READY_WITHIN_S = 60.0

MAX_PAUSE = timedelta(seconds=2)
"""While a worker is down, connections that the kernel assigned to its listener wait."""


@asynccontextmanager
async def working(settings: Settings) -> AsyncGenerator[str]:
    """Run the configured number of workers until the block ends; then drain all of them.

    A worker that dies is restarted; new connections wait, as this process holds its listener. On
    SIGHUP, each is replaced in turn: its successor serves before it exits, so nothing waits.
    Yields the server's URL for a browser on this machine.

    Raises:
        CannotStart: the address cannot be bound, or a worker did not start.
    """
    with TemporaryDirectory(prefix="infrawatch-metrics-") as metrics, ExitStack() as stack:
        with listen(settings) as probe:  # fails if it is in use, even if shared
            host, port = probe.getsockname()[:2]
        chosen = settings.model_copy(update={"port": port})
        workers = [
            _Worker(stack.enter_context(listen(chosen, is_shared=True)), settings.host, metrics)
            for _ in range(settings.workers)
        ]
        async with asyncio.TaskGroup() as tasks:
            keeping = [tasks.create_task(worker.keep()) for worker in workers]
            for worker in workers:
                await worker.ready.wait()
            replacing = tasks.create_task(_replace_on_sighup(workers))
            try:
                yield local_url(host, port)
            finally:
                for task in (replacing, *keeping):
                    task.cancel()


async def _replace_on_sighup(workers: "Sequence[_Worker]") -> None:
    requested = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(SIGHUP, requested.set)
    while True:
        await requested.wait()
        requested.clear()
        for worker in workers:
            try:
                await worker.replace()
            except CannotStart as error:
                log.error("worker_not_replaced", reason=str(error))  # noqa: TRY400  # a sentence
                break


class _Worker:
    """A listener, and one process after another that serves it."""

    def __init__(self, listener: socket.socket, configured_host: str, metrics: str) -> None:
        self._listener = listener
        self._host = configured_host
        self._metrics = metrics
        self._process: Process | None = None
        self._keeper = Keeper("worker", self._start, (SIGTERM,), max_pause=MAX_PAUSE)
        self.ready = asyncio.Event()

    async def keep(self) -> None:
        """Keep a process running until cancelled; then let it finish its requests."""
        async with self._keeper.keeping():
            self.ready.set()
            await asyncio.Event().wait()

    async def replace(self) -> None:
        """Replace the process by one that runs the version installed now and reads `.env` again.

        Raises:
            CannotStart: the new process did not start; the old one keeps serving.
        """
        before = self._process
        await self._keeper.replace()
        self._forget(before)

    def _forget(self, gone: Process | None) -> None:
        """Drop the gauges of a process that has exited; its counters remain."""
        if gone is not None and gone.returncode is not None:
            mark_process_dead(gone.pid, self._metrics)  # type: ignore[no-untyped-call]

    async def _start(self) -> Process:
        self._forget(self._process)
        listener = self._listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())),
            *(str(int(SIGTERM)), "-"),
            *(sys.executable, "-m", "infrawatch", "serve", "--listener", str(listener)),
            *("--host", self._host),  # decides whether the worker requires keys
            stdin=DEVNULL,
            stdout=PIPE,
            env=os.environ | {SHARED_DIRECTORY: self._metrics},
            pass_fds=(listener,),
            start_new_session=True,  # Ctrl-C reaches this process only, which drains its workers
        )
        try:
            self._process = await become_ready(process, _until_ready(process), (SIGTERM,))
        except CannotStart:
            self._forget(process)
            raise
        return process


async def _until_ready(process: Process) -> None:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            line = await process.stdout.readline()
    except TimeoutError:
        raise CannotStart(
            f"A worker was not ready after {READY_WITHIN_S:g} s; the log says why."
        ) from None
    if not line:
        raise CannotStart("A worker did not start; the log says why.")

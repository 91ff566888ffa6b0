"""Several server processes that share a port, kept running."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from signal import SIGTERM
from tempfile import TemporaryDirectory

from prometheus_client.multiprocess import mark_process_dead

from infrawatch.cli.address import local_url
from infrawatch.cli.serving import listen
from infrawatch.embedded import launcher
from infrawatch.embedded.processes import Keeper, become_ready
from infrawatch.errors import CannotStart
from infrawatch.settings import Settings
from infrawatch.telemetry import SHARED_DIRECTORY

READY_WITHIN_S = 60.0


@asynccontextmanager
async def working(settings: Settings) -> AsyncGenerator[str]:
    """Run as many workers as the settings say until the block ends; then all of them drain.

    A worker that dies is started again; what connects meanwhile waits, as its listener is ours.
    Yields the URL a browser on this machine uses.

    Raises:
        CannotStart: the address cannot be had, or a worker did not start.
    """
    with TemporaryDirectory(prefix="infrawatch-metrics-") as metrics, ExitStack() as stack:
        with listen(settings) as probe:  # nobody else may have it, not even to share
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
            try:
                yield local_url(host, port)
            finally:
                for task in keeping:
                    task.cancel()


class _Worker:
    """One process after the other on a listener of its own."""

    def __init__(self, listener: socket.socket, asked_host: str, metrics: str) -> None:
        self._listener = listener
        self._host = asked_host
        self._metrics = metrics
        self._pid: int | None = None
        self.ready = asyncio.Event()

    async def keep(self) -> None:
        """Keep it running until cancelled; then it finishes what is under way."""
        async with Keeper("worker", self._start, (SIGTERM,)).keeping():
            self.ready.set()
            await asyncio.Event().wait()

    async def _start(self) -> Process:
        if self._pid is not None:  # what it counted stays, what it measured is not so any more
            mark_process_dead(self._pid, self._metrics)  # type: ignore[no-untyped-call]
        listener = self._listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())),
            *(str(int(SIGTERM)), "-"),
            *(sys.executable, "-m", "infrawatch", "serve", "--listener", str(listener)),
            *("--host", self._host),  # by it a worker knows whether it has to ask for keys
            stdin=DEVNULL,
            stdout=PIPE,
            env=os.environ | {SHARED_DIRECTORY: self._metrics},
            pass_fds=(listener,),
            start_new_session=True,  # Ctrl-C reaches us alone, and we let them drain
        )
        self._pid = process.pid
        return await become_ready(process, _until_ready(process), (SIGTERM,))


async def _until_ready(process: Process) -> None:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            said = await process.stdout.readline()
    except TimeoutError:
        raise CannotStart(f"A worker was not ready after {READY_WITHIN_S:g} s.") from None
    if not said:
        raise CannotStart("A worker did not start; the log says why.")

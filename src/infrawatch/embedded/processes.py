"""Child processes: started through the launcher, kept running, stopped in order."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from signal import SIGKILL, Signals
from time import monotonic

import structlog

from infrawatch.embedded import launcher
from infrawatch.embedded.home import Home
from infrawatch.errors import CannotStart

Start = Callable[[], Awaitable[Process]]

FIRST_PAUSE = timedelta(seconds=0.5)
MAX_PAUSE = timedelta(seconds=30)
STABLE_AFTER = timedelta(minutes=1)
PATIENCE = timedelta(seconds=30)

log = structlog.get_logger()


async def launch(
    home: Home,
    command: Sequence[str | Path],
    *,
    death_signal: Signals,
    stdin: int = DEVNULL,
    output: int = DEVNULL,
) -> Process:
    """Start a program as the home's account; it gets `death_signal` if this thread ends.

    It has its own session, so that Ctrl-C in a terminal reaches only this process, which decides
    what stops first.
    """
    account = home.account
    return await asyncio.create_subprocess_exec(
        # -I and -S: nothing of this environment but the standard library.
        *(sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())),
        *(str(int(death_signal)), "-" if account is None else f"{account.uid}:{account.gid}"),
        *command,
        stdin=stdin,
        stdout=output,
        stderr=STDOUT,
        cwd=home.path,
        env=_environment(),
        start_new_session=True,
    )


async def run(home: Home, command: Sequence[str | Path], *, text: str = "") -> None:
    """Run a program to its end, with `text` as its standard input.

    Raises:
        CannotStart: the program failed; the message has the end of its output.
    """
    process = await launch(home, command, death_signal=SIGKILL, stdin=PIPE, output=PIPE)
    try:
        output, _ = await process.communicate(text.encode())
    except asyncio.CancelledError:
        await stop(process, (SIGKILL,))
        raise
    if process.returncode:
        tail = output.decode(errors="replace").strip()[-2000:]
        raise CannotStart(f"{Path(command[0]).name} failed:\n{tail}")


async def become_ready(
    process: Process, ready: Awaitable[None], signals: Sequence[Signals]
) -> Process:
    """Return the process once `ready` is done; if that fails or is cancelled, stop it."""
    try:
        await ready
    except BaseException:
        await stop(process, signals)
        raise
    return process


async def stop(process: Process, signals: Sequence[Signals]) -> None:
    """Send the signals in turn, and SIGKILL at last, until the process is gone."""
    for number in (*signals, SIGKILL):
        if process.returncode is not None:
            return
        try:
            process.send_signal(number)
            await asyncio.wait_for(process.wait(), PATIENCE.total_seconds())
        except ProcessLookupError:
            await process.wait()
        except TimeoutError:
            log.warning("child_does_not_stop", pid=process.pid, signal=number.name)


class Keeper:
    """Keeps one child running: it is restarted whenever it ends.

    The pause before a restart doubles from half a second to half a minute, or `max_pause`, and
    is reset after a minute without a restart, and by a child that ended with exit code 0.
    """

    def __init__(
        self,
        name: str,
        start: Start,
        signals: Sequence[Signals],
        *,
        max_pause: timedelta | None = None,
    ) -> None:
        self._name = name
        self._start = start
        self._signals = signals
        self._max_pause = max_pause
        self._starting = asyncio.Lock()
        self._leaving: set[Process] = set()

    @asynccontextmanager
    async def keeping(self) -> AsyncGenerator[None]:
        """The child runs when the block begins, and is gone when it ends.

        Raises:
            CannotStart: the first start failed.
        """
        self._child = await self._start()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep(), name=f"keep {self._name}")
            try:
                yield
            finally:
                keeping.cancel()
                await asyncio.wait({keeping})
                children = {self._child, *self._leaving}
                await asyncio.gather(*(stop(child, self._signals) for child in children))

    async def replace(self) -> None:
        """Start a new child, then stop the current one, which keeps working until then.

        Raises:
            CannotStart: the new child did not start; the current one stays.
        """
        async with self._starting:
            leaving = self._child
            self._child = await self._start()
        self._leaving.add(leaving)
        await stop(leaving, self._signals)
        self._leaving.remove(leaving)
        log.info("child_replaced", name=self._name, pid=self._child.pid)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        started = monotonic()
        while True:
            child = self._child
            code = await child.wait()
            if child is not self._child:  # it was replaced
                continue
            if code == 0 or monotonic() - started > STABLE_AFTER.total_seconds():
                pause = FIRST_PAUSE
            log.error("child_died", name=self._name, code=code, next_start=str(pause))
            await asyncio.sleep(pause.total_seconds())
            pause = min(2 * pause, self._max_pause or MAX_PAUSE)
            started = monotonic()
            await self._start_instead_of(child)

    async def _start_instead_of(self, child: Process) -> None:
        async with self._starting:
            if child is not self._child:
                return
            try:
                self._child = await self._start()
            except CannotStart as error:
                log.warning("child_not_started", name=self._name, reason=str(error))
            else:
                log.info("child_restarted", name=self._name, pid=self._child.pid)


def _environment() -> dict[str, str]:
    """A minimal environment: other accounts may see it, and PG* variables affect the child."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}

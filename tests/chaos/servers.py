"""`infrawatch serve` as a process that is killed, stopped and started again, at one address."""

import asyncio
import os
import re
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGKILL
from tempfile import TemporaryFile

import psutil
from scripted_server import eventually

READY_WITHIN_S = 300
DOOMED = str(Path(__file__).parents[1] / "killed_server.py")

_SURPRISES = re.compile(r"unexpected_error|vital_task_failed|Traceback|never retrieved")
"""What a server may not have to say, whatever is done to it."""


class Server:
    """One server, always at the same address; `variables` count from the next start on."""

    def __init__(self, program: Sequence[str], variables: Mapping[str, str]) -> None:
        port = _free_port()
        self._command = (sys.executable, *program, "serve", "--port", str(port))
        self._log = TemporaryFile("w+b")  # noqa: SIM115  # closed by `running`
        self.url = f"http://127.0.0.1:{port}"
        self.variables = dict(variables)
        self.process: Process

    @classmethod
    @asynccontextmanager
    async def running(
        cls, database_url: str, *, program: Sequence[str] = ("-m", "infrawatch"), **variables: str
    ) -> AsyncGenerator["Server", None]:
        """Run one until the block ends; then see that it was never surprised."""
        given = {"INFRAWATCH_DATABASE_URL": database_url, "INFRAWATCH_LOG_LEVEL": "warning"}
        server = cls(program, given | variables)
        await server.start()
        try:
            yield server
        finally:
            await server.kill()
            output = server.output()
            server._log.close()
        surprise = _SURPRISES.search(output)
        assert surprise is None, output[surprise.start() - 500 :][:5_000]

    async def start(self) -> None:
        """Return when it says that it serves."""
        self.process = await asyncio.create_subprocess_exec(
            *self._command, stdout=PIPE, stderr=self._log, env=os.environ | self.variables
        )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), READY_WITHIN_S)
        assert self.url.rpartition(":")[2].encode() in line, self.output()

    async def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM; it has to leave in good order."""
        self.process.terminate()
        code = await asyncio.wait_for(self.process.wait(), READY_WITHIN_S)
        assert code == 0, f"{code}: {self.output()}"

    async def die(self) -> None:
        """Wait until it has killed itself."""
        code = await asyncio.wait_for(self.process.wait(), READY_WITHIN_S)
        assert code == -SIGKILL, f"{code}: {self.output()}"

    async def replace_workers(self) -> None:
        """SIGHUP: return when none is there of those that were."""
        before = psutil.Process(self.process.pid).children()
        assert len(before) > 1
        self.process.send_signal(SIGHUP)
        are_gone = partial(psutil.wait_procs, before, 0)
        await eventually(lambda: not are_gone()[1], within_s=READY_WITHIN_S)

    def output(self) -> str:
        """What it has logged, all its lives."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])

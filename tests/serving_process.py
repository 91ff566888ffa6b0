"""`infrawatch serve` as a process of its own, to stop it and to look at its memory."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

READY_WITHIN_S = 180


@dataclass(frozen=True, slots=True)
class ServingProcess:
    url: str
    process: Process

    def memory(self, what: str) -> int:
        """Bytes, of `VmRSS` (now) or `VmHWM` (the most there was since `forget_peak`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@asynccontextmanager
async def serving_process(
    database_url: str, **variables: str
) -> AsyncGenerator[ServingProcess, None]:
    """Run the command until the block ends; `variables` are without their prefix."""
    settings = {"DATABASE_URL": database_url, **variables}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "serve", "--port", "0"),
        stdout=PIPE,
        env=os.environ | {f"INFRAWATCH_{name}": value for name, value in settings.items()},
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY_WITHIN_S)
        match = re.search(r"http://\S+", line.decode())
        assert match is not None, line
        yield ServingProcess(match[0].replace("localhost", "127.0.0.1"), process)
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), READY_WITHIN_S)

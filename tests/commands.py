"""The commands, run as a user runs them: processes of their own."""

import asyncio
import os
import re
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

READY_WITHIN_S = 180


@dataclass(frozen=True, slots=True)
class Up:
    process: Process
    output: str

    @property
    def url(self) -> str:
        match = re.search(r"Open +(http://\S+)", self.output)
        assert match is not None
        return match[1]


@asynccontextmanager
async def up(data_dir: Path, *options: str) -> AsyncGenerator[Up]:
    """`infrawatch up` on any free port, from when it says that it is ready."""
    arguments = ("up", "--port", "0", "--data-dir", str(data_dir), *options)
    async with started(arguments, r"Ctrl-C stops") as running:
        yield running


@asynccontextmanager
async def started(
    arguments: Sequence[str], ready: str, *, url: str | None = None
) -> AsyncGenerator[Up]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", *arguments),
        stdout=PIPE,
        stderr=STDOUT,
        env=environment(url),
    )
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            output = await _read_until(process, re.compile(ready))
        yield Up(process, output)
    finally:
        if process.returncode is None:
            process.terminate()
            await rest_of(process)


async def _read_until(process: Process, ready: re.Pattern[str]) -> str:
    assert process.stdout is not None
    output = ""
    while not ready.search(output):
        line = await process.stdout.readline()
        assert line, f"the command ended with this output:\n{output}"
        output += line.decode()
    return output


async def rest_of(process: Process) -> str:
    output, _ = await asyncio.wait_for(process.communicate(), READY_WITHIN_S)
    return output.decode()


def infrawatch(
    *arguments: object, url: str | None = None, stdin: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `stdin` is its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "infrawatch", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=READY_WITHIN_S,
        input=stdin,
        env=environment(url) | variables,
    )


def environment(url: str | None) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("INFRAWATCH_")}
    return own if url is None else own | {"INFRAWATCH_DATABASE_URL": url}

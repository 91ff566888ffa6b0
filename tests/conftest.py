"""A real PostgreSQL for the whole session, and a migrated database of its own for every test."""

import asyncio
import fcntl
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url
from thorough import IS_THOROUGH
from viewing import check
from websockets.asyncio.client import ClientConnection
from websockets.typing import Data

from infrawatch.embedded.binaries import find_binaries
from infrawatch.embedded.postgres import postgres_running
from infrawatch.store.migrations import upgrade

GIVEN = "INFRAWATCH_TEST_POSTGRES"
MEMORY = Path("/dev/shm")
PREFIX = "infrawatch-session-"
ENOUGH_BYTES = 4 * 1024**3
LONG_FILES = (
    *("test_chaos", "test_up", "test_openapi", "test_migrations", "test_workers", "test_views"),
    *("test_first_minutes", "test_connection", "test_overload", "test_live_chaos", "test_backup"),
    *("test_keys_command", "test_sign_in", "test_crashes", "test_hostile"),
)
"""The longest first, or one of them would go on alone at the end."""

Clone = Callable[[str], AbstractContextManager[str]]


# How long an example takes says more of the machine than of what is tested. The same examples each
# time, so that what passed once passes; `make abuse` looks for new ones.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=not IS_THOROUGH,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays: to look for garbage in it takes a fifth of collecting."""
    gc.disable()
    collected = yield
    gc.freeze()
    gc.enable()
    return collected


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits most; what only computes fills up the end."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, bool]:
    name = item.path.stem
    place = LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)
    return place, item.path.parent.name == "unit"


@pytest.fixture(scope="session", autouse=True)
def no_certificates_are_loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust nobody: to load the trusted certificates takes each client a twentieth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_FILE", raising=False)
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("certificates")))
        yield


@pytest.fixture(scope="session", autouse=True)
def sniffio_is_not_looked_for() -> Iterator[None]:
    """httpcore tries to import it for every connection, and it would not be found each time."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("sniffio") is None:
            patch.setitem(sys.modules, "sniffio", None)
        yield


@pytest.fixture(scope="session", autouse=True)
def every_frame_is_as_described() -> Iterator[None]:
    """Validate every frame that is received over a WebSocket against /asyncapi.json."""
    receive = ClientConnection.recv

    async def receive_checked(connection: ClientConnection, decode: bool | None = None) -> Data:
        frame = await receive(connection, decode)
        check(frame)
        return frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientConnection, "recv", receive_checked)
        yield


@pytest.fixture(scope="session")
def temporary_root() -> Iterator[Path]:
    """A directory that PostgreSQL may enter as whichever user it runs (pytest's own is closed).

    In memory where there is enough of it: a database is copied there in 25 ms, on disk in 250.
    """
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    parent = MEMORY if in_memory else Path(tempfile.gettempdir())
    with ExitStack() as locks:
        with locked_directory(parent):  # so that none is looked at before it is locked itself
            remove_what_killed_sessions_left(parent)
            root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            locks.enter_context(locked_directory(root))
        root.chmod(0o711 if os.geteuid() == 0 else 0o700)
        yield root
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def data_dir(temporary_root: Path) -> Path:
    """A directory that is not there yet, another one at each try of a test."""
    return temporary_root / uuid.uuid4().hex


@pytest.fixture(scope="session")
def postgres(temporary_root: Path) -> Iterator[str]:
    """The URL of the maintenance database of a server that only we use.

    It is the embedded one, or that of INFRAWATCH_TEST_POSTGRES: the URL of a superuser.
    """
    given = os.environ.get(GIVEN)
    if given is not None:
        yield given
        return
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(postgres_running(temporary_root / "session")) as server,
    ):
        url = server.endpoint.url("postgres")
        # Tests kill processes, not machines, and on a disk this is what takes longest.
        execute(url, "ALTER SYSTEM SET fsync = off")
        execute(url, "SELECT pg_reload_conf()")
        # Derived from in one round instead of 4096, half of the CPU that a connection takes.
        owner = make_url(url)
        quick = f"ALTER ROLE {owner.username} PASSWORD '{owner.password}'"
        execute(url, f"SET scram_iterations = 1; {quick}")
        yield url


@pytest.fixture(scope="session")
def clone(postgres: str) -> Iterator[Clone]:
    """Makes a database for a block, as another one is (`template0` is empty); gives its URL.

    On a connection that is kept: to make and to drop one by psql takes twice the CPU.
    """
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_connected(postgres)) as connection,
    ):
        run = partial(portal.call, connection.execute)

        @contextmanager
        def cloned(template: str) -> Iterator[str]:
            name = f"test_{uuid.uuid4().hex}"
            run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
            if GIVEN in os.environ:  # plans are those of a disk without heads, as everywhere
                run(f"ALTER DATABASE {name} SET random_page_cost = 1.1")
                run(f"ALTER DATABASE {name} SET jit = off")
            yield f"{postgres.rpartition('/')[0]}/{name}"
            run(f"DROP DATABASE {name} WITH (FORCE)")

        yield cloned


@asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncpg.Connection, None]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def template(clone: Clone) -> Iterator[str]:
    """A database at the newest schema; migrations run here, so every test also tests that."""
    with clone("template0") as url:
        asyncio.run(upgrade(url))
        yield url.rpartition("/")[2]


@pytest.fixture
def database_url(clone: Clone, template: str) -> Iterator[str]:
    """A migrated, empty database for one test."""
    with clone(template) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database_url(clone: Clone, template: str) -> Iterator[str]:
    """A migrated database for all tests of a module that do not mind each other."""
    with clone(template) as url:
        yield url


def execute(url: str, statement: str) -> str:
    """Run a statement with psql, as another program would; returns its plain output."""
    psql = find_binaries().program("psql")
    return subprocess.check_output(
        [psql, url, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-Atc", statement], text=True
    ).strip()


def remove_what_killed_sessions_left(parent: Path) -> None:
    for left in parent.glob(f"{PREFIX}*"):
        with (
            suppress(OSError),
            locked_directory(left, fcntl.LOCK_NB),
        ):  # held by a session that still runs
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def locked_directory(directory: Path, options: int = 0) -> Iterator[None]:
    """Lock a directory for one process; the kernel unlocks it when that dies."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | options)
        yield
    finally:
        os.close(opened)

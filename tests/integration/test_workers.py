"""`infrawatch serve --workers`: several processes on one port."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from httpx import AsyncClient, TransportError
from scripted_server import eventually
from viewing import metric, now_ms, push, until, viewing
from websockets.exceptions import ConnectionClosed

WORKERS = 2
READY_WITHIN_S = 180


@dataclass(frozen=True, slots=True)
class Service:
    process: Process
    url: str

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}


@asynccontextmanager
async def service(database_url: str, tmp: Path, port: int = 0) -> AsyncGenerator[Service, None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "serve", "--port", str(port)),
        *("--workers", str(WORKERS)),
        stdout=PIPE,
        env=os.environ | {"INFRAWATCH_DATABASE_URL": database_url, "TMPDIR": str(tmp)},
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), READY_WITHIN_S)
        match = re.search(r"http://\S+", line.decode())
        assert match is not None
        yield Service(process, match[0].replace("localhost", "127.0.0.1"))
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)


async def accepted(url: str) -> float:
    async with AsyncClient(base_url=url, verify=False, timeout=30) as client:
        text = (await client.get("/metrics")).text
    assert "pid=" not in text
    assert text.count("# HELP infrawatch_samples_accepted_total") == 1
    found = re.search(r"(?m)^infrawatch_samples_accepted_total{.*} (\S+)$", text)
    assert found is not None
    return float(found[1])


async def test_they_share_the_port_the_samples_and_what_they_count(
    database_url: str, tmp_path: Path
) -> None:
    now = now_ms()
    async with service(database_url, tmp_path) as running, AsyncExitStack() as stack:
        assert len(running.workers()) == WORKERS
        viewers = [await stack.enter_async_context(viewing(running.url)) for _ in range(6)]
        pictures = [await viewer.subscribe("m") for viewer in viewers]
        for number in range(20):  # each on a connection of its own
            await push(running.url, "m", [(now + number, number)])
        for viewer, picture in zip(viewers, pictures, strict=True):
            await viewer.until_there_are(picture, 20)
            assert picture.gaps == []
        assert {await accepted(running.url) for _ in range(10)} == {20}  # whoever answers

        async def all_are_counted() -> bool:
            return await metric(running.url, "infrawatch_live_subscriptions") == len(viewers)

        await until(all_are_counted)


async def test_a_worker_that_dies_is_restarted_without_refusing_requests(
    database_url: str, tmp_path: Path
) -> None:
    now = now_ms()
    async with service(database_url, tmp_path) as running:
        for number in range(10):
            await push(running.url, "m", [(now + number, number)])
        victim = min(running.workers())
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: not psutil.pid_exists(victim))
        for number in range(10, 30):
            await push(running.url, "m", [(now + number, number)])
        await eventually(lambda: len(running.workers()) == WORKERS)
        assert await accepted(running.url) == 30  # what the dead one counted is not forgotten


async def test_sighup_replaces_them_and_what_they_counted_stays(
    database_url: str, tmp_path: Path
) -> None:
    now = now_ms()
    async with service(database_url, tmp_path) as running:
        before = running.workers()
        await push(running.url, "m", [(now, 0)])
        running.process.send_signal(signal.SIGHUP)
        while before & running.workers():
            with suppress(TransportError):  # who has just connected as one leaves sends again
                await push(running.url, "m", [(now, 0)])
        assert len(running.workers()) == WORKERS
        counted = await accepted(running.url)
        await push(running.url, "m", [(now, 0)])
        assert await accepted(running.url) == counted + 1

        def are_gauges_gone() -> bool:
            return not [one for pid in before for one in tmp_path.rglob(f"gauge_live*_{pid}.db")]

        await eventually(are_gauges_gone)


async def test_sigterm_drains_all_workers(database_url: str, tmp_path: Path) -> None:
    async with service(database_url, tmp_path) as running:
        assert files_in(tmp_path)
        workers = running.workers()
        await refuse_the_same_port(running, database_url)
        async with viewing(running.url) as viewer:
            await viewer.subscribe("m")
            running.process.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                await viewer.next("update")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert await asyncio.wait_for(running.process.wait(), 20) == 0
    assert not [pid for pid in workers if psutil.pid_exists(pid)]
    assert files_in(tmp_path) == []  # the directory of the metrics is gone


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def refuse_the_same_port(running: Service, database_url: str) -> None:
    """Though it could be shared."""
    port = running.url.rpartition(":")[2]
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "serve", "--port", port, "--workers", "2"),
        stderr=PIPE,
        env=os.environ | {"INFRAWATCH_DATABASE_URL": database_url},
    )
    _, complaints = await asyncio.wait_for(second.communicate(), READY_WITHIN_S)
    assert second.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in complaints.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: other systems have no such signal")
async def test_when_their_parent_is_killed_they_leave_the_port(
    database_url: str, tmp_path: Path
) -> None:
    async with service(database_url, tmp_path) as running:
        workers = running.workers()
        port = int(running.url.rpartition(":")[2])
        running.process.kill()
        await running.process.wait()
        await eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    async with service(database_url, tmp_path, port) as again:
        assert again.url == running.url

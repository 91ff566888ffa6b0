"""Children are kept running, and are gone when they should be."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from datetime import timedelta
from pathlib import Path

import pytest
from scripted_server import eventually

from infrawatch.embedded import processes
from infrawatch.embedded.home import Home
from infrawatch.embedded.processes import Keeper, launch, run, stop
from infrawatch.errors import CannotStart

SLEEP = ["/bin/sleep", "600"]


@pytest.fixture
def home(temporary_root: Path) -> Home:
    return Home(temporary_root, None, temporary_root)


class _Start:
    """Starts children; the first `failures` starts fail."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.failures = 0
        self.children: list[Process] = []

    async def __call__(self) -> Process:
        if self.failures:
            self.failures -= 1
            raise CannotStart("told to")
        self.children.append(await launch(self._home, SLEEP, death_signal=signal.SIGTERM))
        return self.children[-1]


async def test_a_child_that_dies_is_started_until_it_lives(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", timedelta(milliseconds=1))
    start = _Start(home)
    async with Keeper("sleep", start, (signal.SIGTERM,)).keeping():
        start.failures = 3
        os.kill(start.children[0].pid, signal.SIGKILL)
        await eventually(lambda: len(start.children) == 2)

    assert start.failures == 0
    assert start.children[1].returncode == -signal.SIGTERM


@pytest.mark.parametrize(("code", "max_pause"), [(0, None), (1, timedelta(milliseconds=1))])
async def test_the_pause_is_short_after_an_orderly_exit_or_an_explicit_request(
    code: int, max_pause: timedelta | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", timedelta(milliseconds=1))
    children: list[Process] = []

    async def start() -> Process:
        command = ("/bin/sh", "-c", f"exit {code}")
        children.append(await asyncio.create_subprocess_exec(*command))
        return children[-1]

    async with Keeper("brief", start, (signal.SIGTERM,), max_pause=max_pause).keeping():
        await eventually(lambda: len(children) > 20, within_s=60)  # else after a quarter of an hour


async def test_a_child_stays_until_another_has_taken_its_place(home: Home) -> None:
    start = _Start(home)
    keeper = Keeper("sleep", start, (signal.SIGTERM,))
    async with keeper.keeping():
        start.failures = 1
        with pytest.raises(CannotStart, match="told to"):
            await keeper.replace()
        assert start.children[0].returncode is None
        await keeper.replace()
        assert [child.returncode for child in start.children] == [-signal.SIGTERM, None]


async def test_a_first_start_that_fails_is_not_tried_again(home: Home) -> None:
    start = _Start(home)
    start.failures = 1
    with pytest.raises(CannotStart, match="told to"):
        async with Keeper("sleep", start, (signal.SIGTERM,)).keeping():
            pytest.fail("it runs")
    assert start.children == []


async def test_a_child_is_stopped_when_we_are_cancelled(home: Home) -> None:
    start = _Start(home)

    async def hold() -> None:
        async with Keeper("sleep", start, (signal.SIGTERM,)).keeping():
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(hold())
        await eventually(lambda: start.children)
        holding.cancel()

    assert start.children[0].returncode == -signal.SIGTERM


async def test_a_child_that_ignores_sigterm_is_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", timedelta(milliseconds=50))
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
    process = await launch(
        home,
        [sys.executable, "-c", f"{deaf}; signal.pause()"],
        death_signal=signal.SIGKILL,
        output=PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"deaf\n"

    await stop(process, (signal.SIGTERM,))

    assert process.returncode == -signal.SIGKILL


async def test_a_terminal_s_ctrl_c_does_not_reach_children(home: Home) -> None:
    child = await launch(home, SLEEP, death_signal=signal.SIGTERM)
    try:
        assert os.getsid(child.pid) != os.getsid(0)
        assert os.getpgid(child.pid) == child.pid
    finally:
        await stop(child, (signal.SIGTERM,))


async def test_a_program_that_fails_is_quoted(home: Home) -> None:
    script = "import sys; sys.exit('what it ' + input())"
    with pytest.raises(CannotStart, match=r"python.* failed:\nwhat it says"):
        await run(home, [sys.executable, "-c", script], text="says\n")

"""The agent as a whole, inside this process, and the options it takes."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from scripted_server import ScriptedServer, eventually, scripted_server
from typer.testing import CliRunner

from infrawatch.agent.loop import AgentOptions, Grid, run
from infrawatch.agent.readings import Reading
from infrawatch.cli.commands import app
from infrawatch.errors import CannotStart, InvalidInput

INTERVAL = timedelta(milliseconds=100)


async def test_every_series_names_its_origin(tmp_path: Path) -> None:
    labels = {"env": "test", "job": "mine"}
    async with scripted_server() as server, running(server, tmp_path, labels=labels):
        await eventually(lambda: len(server.accepted) >= 3)

    for series in (one for batch in server.accepted for one in batch["series"]):
        assert series["labels"]["instance"] == socket.gethostname()
        assert series["labels"]["job"] == "mine"
        assert series["labels"]["env"] == "test"


async def test_the_agent_reports_its_own_state(tmp_path: Path) -> None:
    async with scripted_server() as server, running(server, tmp_path):
        await eventually(lambda: len(server.accepted) >= 3)

    metrics = {series["metric"] for series in server.accepted[-1]["series"]}
    assert metrics >= {
        "up",
        "infrawatch_agent_info",
        "infrawatch_agent_spool_batches",
        "infrawatch_agent_spool_samples",
        "infrawatch_agent_spool_bytes",
        "infrawatch_agent_dropped_samples_total",
        "infrawatch_agent_collector_errors_total",
        "infrawatch_agent_collection_duration_seconds",
        "infrawatch_agent_send_attempts_total",
    }


async def test_samples_are_a_step_apart(tmp_path: Path) -> None:
    async with scripted_server() as server, running(server, tmp_path):
        await eventually(lambda: len(server.accepted) >= 10)

    times = sorted(
        {at for batch in server.accepted for one in batch["series"] for at, _ in one["samples"]}
    )
    span = timedelta(milliseconds=times[-1] - times[0])
    most = span / INTERVAL + 2  # the first may have been late, and the last not
    assert len(times) <= most, "missed passes are skipped"


async def test_a_stopped_agent_leaves_no_task_and_frees_its_spool(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with scripted_server() as server:
        for _ in range(2):
            async with running(server, tmp_path):
                server.accepted.clear()
                await eventually(lambda: server.accepted)
    assert asyncio.all_tasks() == before


async def test_a_slow_collector_does_not_block_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, release = Event(), Event()
    released: list[bool] = []

    def wait() -> list[Reading]:
        started.set()
        released.append(release.wait(10))
        return []

    monkeypatch.setattr("infrawatch.agent.loop.host_collectors", lambda: {"slow": wait})
    async with scripted_server() as server, running(server, tmp_path):
        await eventually(started.is_set)
        release.set()
        await eventually(lambda: server.accepted)
    assert released[0]


async def test_two_agents_cannot_share_a_spool(tmp_path: Path) -> None:
    async with scripted_server() as server, running(server, tmp_path):
        await eventually(lambda: server.accepted)
        with pytest.raises(CannotStart, match="--spool-dir"):
            await run(AgentOptions(url=server.url, spool_dir=tmp_path))


def test_times_that_are_nearly_regular_are_put_on_a_grid() -> None:
    grid = Grid(timedelta(seconds=5))
    start_ms = 1_790_000_001_234
    jitter_ms = [0, 3, -2, 9.9, -9, 4]
    times = [start_ms + number * 5000 + off for number, off in enumerate(jitter_ms)]
    placed = [grid.to_ms(round(time_ms * 1000)) for time_ms in times]
    assert placed == [start_ms + number * 5000 for number in range(6)]


def test_a_clock_that_was_set_begins_a_new_grid() -> None:
    grid = Grid(timedelta(seconds=5))
    grid.to_ms(1_790_000_000_000_000)
    assert grid.to_ms(1_790_000_007_000_000) == 1_790_000_007_000
    assert grid.to_ms(1_790_000_012_004_000) == 1_790_000_012_000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"url": "metrics.example.org"}, "URL"),
        ({"interval": timedelta(0)}, "100ms"),
        ({"labels": {"9lives": "x"}}, "9lives"),
        ({"labels": {"__name__": "x"}}, "__name__"),
        ({"labels": {"a": "x" * 5000}}, "4096"),
        ({"labels": {f"a{number}": "x" for number in range(33)}}, "32"),
    ],
)
def test_options_that_cannot_be_are_named(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    options: dict[str, object] = {"url": "http://localhost", "spool_dir": tmp_path}
    with pytest.raises(InvalidInput, match=message):
        AgentOptions(**(options | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--label", "novalue"], "novalue"),
        (["--key-file", "/nowhere/key"], "/nowhere/key"),
    ],
)
def test_the_command_names_the_invalid_option(arguments: list[str], expected: str) -> None:
    outcome = CliRunner().invoke(app, ["agent", *arguments])
    assert outcome.exit_code == 2
    assert expected in outcome.output


@pytest.mark.parametrize(
    ("options", "environment", "name"),
    [
        (["--interval", "often"], {}, "--interval: "),
        ([], {"INFRAWATCH_INTERVAL": "often"}, "INFRAWATCH_INTERVAL: "),
    ],
)
def test_the_command_names_an_invalid_setting(
    options: list[str], environment: dict[str, str], name: str
) -> None:
    outcome = CliRunner().invoke(app, ["agent", *options], env=environment)
    assert isinstance(outcome.exception, CannotStart)
    assert str(outcome.exception).startswith(name)


@asynccontextmanager
async def running(
    server: ScriptedServer, spool_dir: Path, *, labels: dict[str, str] | None = None
) -> AsyncGenerator[None, None]:
    options = AgentOptions(
        url=server.url, spool_dir=spool_dir, interval=INTERVAL, labels=labels or {}
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run(options))
        yield
        task.cancel()

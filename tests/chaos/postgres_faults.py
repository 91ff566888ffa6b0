"""PostgreSQL is stopped, killed, held still and out of room under load."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGQUIT
from subprocess import check_call, run
from time import monotonic

import psutil
import pytest
from chaos.load import Load, sending
from chaos.servers import Server
from chaos.world import Outcome, World, world_in

DISK_MIB = 400
FILLED_S = 5.0
MIB = 1024 * 1024


async def _end(world: World, rounds: int, signal: int) -> Outcome:
    async with Server.running(world.url) as server:
        async with sending(f"signal_{signal}", server.url) as load:
            for _ in range(rounds):
                began_at = monotonic()
                os.kill(_postmaster(world).pid, signal)
                await load.recover(began_at)
        return await Outcome.of(load, world, server.url, rounds=rounds)


stop_at_once = partial(_end, signal=SIGQUIT)
kill = partial(_end, signal=SIGKILL)


async def hold_still(world: World, rounds: int, *, seconds: float) -> Outcome:
    """SIGSTOP: connections stay open, without responses."""
    async with Server.running(world.url) as server:
        async with sending("still", server.url) as load:
            for _ in range(rounds):
                with _stopped(world):
                    await asyncio.sleep(seconds)
                await load.recover()
        return await Outcome.of(load, world, server.url, rounds=rounds)


async def fill_the_disk(world: World, rounds: int) -> Outcome:
    """A small disk of its own, which is full until space is freed."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a full disk; mounting a small one needs root")
    directory = world.directory.parent / "small-disk"
    with _small_disk(directory):
        async with world_in(directory) as small, Server.running(small.url) as server:
            async with sending("filled", server.url) as load:
                for _ in range(rounds):
                    await _fill(directory / "filler", load)
                    await load.recover()
            return await Outcome.of(load, small, server.url, rounds=rounds)


def _postmaster(world: World) -> psutil.Process:
    pid_file = world.postgres.home.cluster / "postmaster.pid"
    return psutil.Process(int(pid_file.read_text("utf-8").split()[0]))


@contextmanager
def _stopped(world: World) -> Generator[None, None, None]:
    """Kill the postmaster first, so that it starts no further processes."""
    postmaster = _postmaster(world)
    postmaster.suspend()
    children = postmaster.children(recursive=True)
    for child in children:
        child.suspend()
    try:
        yield
    finally:
        for one in (*children, postmaster):
            one.resume()


@contextmanager
def _small_disk(directory: Path) -> Generator[None, None, None]:
    directory.mkdir()
    directory.chmod(0o711)
    options = f"size={DISK_MIB}m,mode=711"
    if run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=False).returncode:
        directory.rmdir()
        pytest.skip("NOT TESTED: a full disk; a small one could not be mounted")
    try:
        yield
    finally:
        check_call(["umount", directory])
        directory.rmdir()


async def _fill(filler: Path, load: Load) -> None:
    """Take all that is left until nobody is acknowledged any more, for a while; then give it back.

    A write of PostgreSQL's own may still find room in what it has: refusals are the proof.
    """
    refused = load.ledger.statuses[503]
    with filler.open("wb", buffering=0) as file:
        filled_until = monotonic() + FILLED_S
        async with asyncio.timeout(FILLED_S * 20):
            while monotonic() < filled_until or load.ledger.statuses[503] == refused:
                _take_all(file.fileno())
                await asyncio.sleep(0.01)
        file.truncate(0)


def _take_all(descriptor: int) -> None:
    for size in (MIB, 4096):
        try:
            while True:
                os.write(descriptor, bytes(size))
        except OSError:
            continue

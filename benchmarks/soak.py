"""Half an hour at 70 % of what the server can take: `make soak`, or ARGS="--minutes 10".

Starts an embedded PostgreSQL and `infrawatch serve`, finds out how many batches (W1 of workload.py)
are acknowledged a second, and then sends so many of them by the clock, new samples every second.
Meanwhile the server's memory is noted; a third of the time is for what grows once (caches, pools, a
full replay window), and what grows after that is a leak. Descriptors and asyncio tasks follow what
is under way, so they are compared at rest: after the warm-up, and at the end.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import psutil

from benchmarks.bench_ingest import serving
from benchmarks.overload import HOSTS, MAXIMUM_S, MIB, SENDERS, WARM_UP_S
from benchmarks.pressure import SAMPLES, Bodies, press
from infrawatch.embedded.postgres import postgres_running
from infrawatch.store.migrations import upgrade

CROWD = 100
SHARE = 0.7
NOTE_EVERY_S = 10
REST_S = 15
AIM_MIB_PER_MINUTE = 1.0
MOST_MORE = 3
"""Connections to PostgreSQL, and what waits for them: pools close and open them as they like."""
_TASKS = "infrawatch_tasks "


class Note(NamedTuple):
    memory_mib: float
    descriptors: int
    tasks: int


class Server(NamedTuple):
    """What it uses, as it says itself and as the kernel says."""

    process: psutil.Process
    address: str

    async def look(self) -> Note:
        async with httpx.AsyncClient(base_url=self.address, timeout=60) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        tasks = next(float(one.split()[-1]) for one in lines if one.startswith(_TASKS))
        return Note(self.process.memory_info().rss / MIB, self.process.num_fds(), int(tasks))

    async def look_at_rest(self) -> Note:
        """The least of what it uses in a while without senders."""
        notes = [await self.look()]
        for _ in range(REST_S):
            await asyncio.sleep(1)
            notes.append(await self.look())
        return Note(*map(min, zip(*notes, strict=True)))


async def main(minutes: float, share: float, directory: Path) -> None:
    """Measure and print; leaves with 1 if something grows or a batch was not taken."""
    bodies = Bodies(hosts=HOSTS)
    async with postgres_running(directory) as postgres:
        await upgrade(postgres.endpoint.url())
        async with serving(postgres.endpoint.url()) as (process, address):
            server, url = Server(process, address), f"{address}/v1/samples"
            await press(url, bodies, senders=SENDERS, seconds=WARM_UP_S)
            most = await press(url, bodies, senders=SENDERS, seconds=MAXIMUM_S)
            early = await server.look_at_rest()
            print(f"{most.goodput * SAMPLES:,.0f} samples/s at most; {share:.0%} of it from now on")
            async with asyncio.TaskGroup() as both:
                noting = both.create_task(note(server, minutes))
                sent = await press(
                    url, bodies, senders=CROWD, seconds=60 * minutes, rate=share * most.goodput
                )
            late = await server.look_at_rest()
    slope = slope_of(noting.result())
    descriptors, tasks = late.descriptors - early.descriptors, late.tasks - early.tasks
    print(f"{sent.accepted * SAMPLES:,} samples acknowledged, {sent.refused:,} batches refused")
    print(f"memory {slope:+.2f} MiB a minute, descriptors {descriptors:+}, tasks {tasks:+} at rest")
    if sent.wrong or slope > AIM_MIB_PER_MINUTE or max(descriptors, tasks) > MOST_MORE:
        sys.exit(f"something grows, or was wrong: {sent.wrong[:1]}")


async def note(server: Server, minutes: float) -> list[tuple[float, float]]:
    """(minutes, MiB) until the time is over; every minute is printed."""
    notes: list[tuple[float, float]] = []
    print(f"{'minute':>6} {'MiB':>7} {'descriptors':>11} {'tasks':>6}")
    for number in range(1, 1 + int(60 * minutes / NOTE_EVERY_S)):
        await asyncio.sleep(NOTE_EVERY_S)
        now = await server.look()
        at = number * NOTE_EVERY_S / 60
        notes.append((at, now.memory_mib))
        if number % 6 == 0:
            print("{:>6.0f} {:>7.0f} {:>11} {:>6}".format(at, *now), flush=True)
    return notes


def slope_of(notes: list[tuple[float, float]]) -> float:
    """MiB a minute: of a line through the last two thirds."""
    settled = np.array(notes[len(notes) // 3 :])
    return float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Half an hour at 70 % of what it can take.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=SHARE, help="of what it takes at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="infrawatch-soak-") as home:
        Path(home).chmod(0o711)  # PostgreSQL runs as another user when we are root
        asyncio.run(main(options.minutes, options.share, Path(home) / "data"))

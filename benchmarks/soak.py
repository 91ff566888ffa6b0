"""Half an hour at 70 % of what the server can take: `make soak`, or ARGS="--minutes 10".

Starts an embedded PostgreSQL and `infrawatch serve`, finds out how many batches (W1 of workload.py)
are acknowledged a second, and then sends so many of them by the clock, new samples every second.
Meanwhile the server's memory, descriptors and asyncio tasks are noted. A third of the time is for
what grows once (caches, pools, a full replay window); what grows after that is a leak.
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
AIM_MIB_PER_MINUTE = 1.0
_TASKS = "infrawatch_tasks "


class Note(NamedTuple):
    minutes: float
    memory_mib: float
    descriptors: int
    tasks: int


async def main(minutes: float, share: float, directory: Path) -> None:
    """Measure and print; leaves with 1 if something grows or a batch was not taken."""
    bodies = Bodies(hosts=HOSTS)
    async with postgres_running(directory) as postgres:
        await upgrade(postgres.endpoint.url())
        async with serving(postgres.endpoint.url()) as (server, address):
            url = f"{address}/v1/samples"
            await press(url, bodies, senders=SENDERS, seconds=WARM_UP_S)
            most = await press(url, bodies, senders=SENDERS, seconds=MAXIMUM_S)
            print(f"{most.goodput * SAMPLES:,.0f} samples/s at most; {share:.0%} of it from now on")
            async with asyncio.TaskGroup() as both:
                noting = both.create_task(note(server, address, minutes))
                sent = await press(
                    url, bodies, senders=CROWD, seconds=60 * minutes, rate=share * most.goodput
                )
            notes = noting.result()
    print(f"{sent.accepted * SAMPLES:,} samples acknowledged, {sent.refused:,} batches refused")
    slope, descriptors, tasks = judge(notes)
    print(f"memory {slope:+.2f} MiB a minute, descriptors {descriptors:+}, tasks {tasks:+}")
    if sent.wrong or slope > AIM_MIB_PER_MINUTE or descriptors > 0 or tasks > 0:
        sys.exit(f"something grows, or was wrong: {sent.wrong[:1]}")


async def note(server: psutil.Process, address: str, minutes: float) -> list[Note]:
    """Print and collect what the server uses until the time is over."""
    notes: list[Note] = []
    print(f"{'minute':>6} {'MiB':>7} {'descriptors':>11} {'tasks':>6}")
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        for number in range(int(60 * minutes / NOTE_EVERY_S)):
            await asyncio.sleep(NOTE_EVERY_S)
            lines = (await client.get("/metrics")).text.splitlines()
            tasks = next(float(one.split()[-1]) for one in lines if one.startswith(_TASKS))
            memory_mib = server.memory_info().rss / MIB
            at = (number + 1) * NOTE_EVERY_S / 60
            notes.append(Note(at, memory_mib, server.num_fds(), int(tasks)))
            if number % 6 == 5:
                print("{:>6.0f} {:>7.0f} {:>11} {:>6}".format(*notes[-1]), flush=True)
    return notes


def judge(notes: list[Note]) -> tuple[float, int, int]:
    """How much memory grew a minute, and how many more descriptors and tasks there are.

    By the slope of a line through the last two thirds, and the medians of their halves.
    """
    settled = np.array(notes[len(notes) // 3 :])
    slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0])
    early, late = np.array_split(settled[:, 2:], 2)
    descriptors, tasks = (np.median(late, axis=0) - np.median(early, axis=0)).astype(int).tolist()
    return slope, descriptors, tasks


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Half an hour at 70 % of what it can take.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=SHARE, help="of what it takes at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="infrawatch-soak-") as home:
        Path(home).chmod(0o711)  # PostgreSQL runs as another user when we are root
        asyncio.run(main(options.minutes, options.share, Path(home) / "data"))

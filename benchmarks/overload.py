"""Three times what the server can take, for a minute: `make overload`.

Starts an embedded PostgreSQL and `infrawatch serve`, finds out how many batches (W1 of workload.py)
are acknowledged a second when each sender waits for its answer, then sends three times as many by
the clock over a thousand connections, and measures the maximum again. Every answer has to be 200,
or 503 with `Retry-After`; what is due while all connections wait for answers is told, too.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from pathlib import Path
from time import monotonic

import psutil

from benchmarks.bench_ingest import serving
from benchmarks.pressure import SAMPLES, Bodies, Tally, press
from infrawatch.embedded.postgres import postgres_running
from infrawatch.store.migrations import upgrade

HOSTS = 100
TIMES = 3
SENDERS, CROWD = 16, 1_000
WARM_UP_S, MAXIMUM_S = 5, 15
MIB = 1024 * 1024

AIM_GOODPUT = 0.8
AIM_RECOVERY_S = 5


async def main(seconds: float, directory: Path) -> None:
    """Measure and print; leaves with 1 if an aim was missed."""
    bodies = Bodies(hosts=HOSTS)
    async with postgres_running(directory) as postgres:
        await upgrade(postgres.endpoint.url())
        async with serving(postgres.endpoint.url()) as (server, address):
            url = f"{address}/v1/samples"
            await press(url, bodies, senders=SENDERS, seconds=WARM_UP_S)
            before = await press(url, bodies, senders=SENDERS, seconds=MAXIMUM_S)
            calm_bytes = forget_peak(server)
            crowd = await press(
                url, bodies, senders=CROWD, seconds=seconds, rate=TIMES * before.goodput
            )
            recovery_s = crowd.drained_s + await until_prompt(url, bodies)
            grown_bytes = peak(server) - calm_bytes
            after = await press(url, bodies, senders=SENDERS, seconds=MAXIMUM_S)
    most = (before.goodput + after.goodput) / 2
    tell(crowd, most, recovery_s, grown_bytes)
    if crowd.wrong:
        sys.exit(f"{len(crowd.wrong)} wrong: {crowd.wrong[0].decode(errors='replace')}")
    if crowd.goodput < AIM_GOODPUT * most or recovery_s > AIM_RECOVERY_S:
        sys.exit("an aim was missed")


def tell(crowd: Tally, most: float, recovery_s: float, grown_bytes: int) -> None:
    """Print what came of it."""
    offered, goodput = crowd.offered / most, crowd.goodput / most
    print(f"at most      {most * SAMPLES:>11,.0f} samples/s, {SENDERS} senders that wait")
    print(f"offered      {crowd.offered * SAMPLES:>11,.0f} samples/s ({offered:.1f} times)")
    print(f"acknowledged {crowd.goodput * SAMPLES:>11,.0f} samples/s ({goodput:.0%})")
    print(
        f"batches      {crowd.accepted:,} taken, {crowd.refused:,} refused with 503, "
        f"{crowd.skipped:,} due while all {CROWD} senders waited, {len(crowd.wrong)} wrong"
    )
    print(f"memory       {grown_bytes / MIB:>11,.0f} MiB more at its peak")
    print(f"recovery     {recovery_s:>11.1f} s until all is answered and a batch is taken promptly")


async def until_prompt(url: str, bodies: Bodies) -> float:
    """Seconds until a batch is acknowledged at the first attempt."""
    began = monotonic()
    while True:
        probe = await press(url, bodies, senders=1, seconds=0.01)
        if probe.accepted and not probe.refused:
            return monotonic() - began


def forget_peak(server: psutil.Process) -> int:
    """Start to measure the peak of memory anew; gives what is in use now."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    return server.memory_info().rss


def peak(server: psutil.Process) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Three times what the server can take.")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="infrawatch-overload-") as home:
        Path(home).chmod(0o711)  # PostgreSQL runs as another user when we are root
        asyncio.run(main(options.seconds, Path(home) / "data"))

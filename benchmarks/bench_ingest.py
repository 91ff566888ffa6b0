"""What it costs to take samples in: `make bench`, or `make bench ARGS="--rounds 60"`.

Starts an embedded PostgreSQL and `infrawatch serve`, each a process of its own and new for each
shape, and sends them the reference workload (workload.py) over native JSON. CPU is that of both
process trees from the first request, sent when they are at rest after their start, until they are
at rest again. The last column leaves out the first request of each sender, whose series are new: of
few requests, those are the slowest. Rerun it before and after a change and put both tables into the
pull request.
"""

import argparse
import asyncio
import contextlib
import os
import re
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import psutil

from benchmarks.driver import Outcome, drive
from benchmarks.encodings import NativeJson
from benchmarks.workload import W1, W2, Shape, Workload
from infrawatch.embedded.postgres import postgres_running
from infrawatch.store.migrations import upgrade

JSON = NativeJson()
CONNECTIONS = 8
HOSTS = 100
ROUNDS = 300
AIM_P99_MS = 60
AIMS_S = {W1: 3.0, W2: 0.5}
"""CPU seconds per million samples, API and PostgreSQL together."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One shape's outcome, while series are new and then known; CPU seconds of both sides."""

    new: Outcome
    known: Outcome
    api_s: float
    postgres_s: float

    @property
    def outcome(self) -> Outcome:
        return self.new.plus(self.known)


def main(hosts: int, rounds: int, shapes: list[Shape]) -> None:
    """Measure and print; leaves with 1 if anything was refused."""
    print(f"{hosts * 100:,} series, {rounds} samples each, {CONNECTIONS} connections")
    workload = Workload.generate(hosts=hosts, rounds=rounds, end_ms=time.time_ns() // 1_000_000)
    print(
        f"{'':3} {'samples/s':>10} {'API':>7} {'PostgreSQL':>10} {'both':>6}  CPU s per million"
        f"  {'p50':>6} {'p99':>6} ms          p99, known series"
    )
    with tempfile.TemporaryDirectory(prefix="infrawatch-bench-") as directory:
        root = Path(directory)
        root.chmod(0o711)  # PostgreSQL runs as another user when we are root
        for shape in shapes:
            cost = asyncio.run(measure(shape, workload, root / shape.name))
            if cost.outcome.refused:
                sys.exit(f"refused: {cost.outcome.refused[0].decode(errors='replace')}")
            print(to_line(shape, cost))


async def measure(shape: Shape, workload: Workload, data_dir: Path) -> Cost:
    """What a shape costs a server that has never seen its series."""
    batches = list(workload.batches(shape, JSON))
    async with postgres_running(data_dir) as postgres:
        url = postgres.endpoint.url()
        await upgrade(url)
        postmaster = (postgres.home.cluster / "postmaster.pid").read_text().split()[0]
        trees = [psutil.Process(int(postmaster))]
        async with serving(url) as (server, address):
            trees.append(server)
            await at_rest(trees)
            before = [cpu_s(tree) for tree in trees]
            path = f"{address}/v1/samples"
            news = len({batch.group for batch in batches})
            new, known = [
                await drive(path, JSON.headers, part, connections=CONNECTIONS)
                for part in (batches[:news], batches[news:])
            ]
            await at_rest(trees)
            spent = [cpu_s(tree) - earlier for tree, earlier in zip(trees, before, strict=True)]
    return Cost(new, known, postgres_s=spent[0], api_s=spent[1])


def to_line(shape: Shape, cost: Cost) -> str:
    """One row of the table; the numbers in brackets are parts of the aim, 1 or less is good."""
    outcome, millions = cost.outcome, cost.outcome.samples / 1e6
    both = (cost.api_s + cost.postgres_s) / millions
    p99 = outcome.percentile_ms(99)
    return (
        f"{shape.name:3} {outcome.samples / outcome.wall_s:>10,.0f} {cost.api_s / millions:>7.2f}"
        f" {cost.postgres_s / millions:>10.2f} {both:>6.2f}"
        f"  ({both / AIMS_S[shape]:.2f} of {AIMS_S[shape]})"
        f"   {outcome.percentile_ms(50):>6.1f} {p99:>6.1f} ({p99 / AIM_P99_MS:.2f} of {AIM_P99_MS})"
        f" {cost.known.percentile_ms(99):>6.1f}"
    )


@contextlib.asynccontextmanager
async def serving(
    database_url: str, *, workers: int = 1
) -> AsyncIterator[tuple[psutil.Process, str]]:
    """`infrawatch serve` as a child; gives the process and its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "serve", "--port", "0", "--workers", str(workers)),
        env={**os.environ, "INFRAWATCH_DATABASE_URL": database_url},
        stdout=PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), timeout=120)
        address = re.search(r"http://\S+", line.decode())
        if address is None:
            sys.exit(f"the server did not start: {line.decode()}")
        yield psutil.Process(process.pid), address[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(SIGTERM)
        await process.wait()


def cpu_s(tree: psutil.Process) -> float:
    """User and system seconds of a process, its children, and the children it has outlived."""
    own = tree.cpu_times()
    spent = own.user + own.system + own.children_user + own.children_system
    for child in tree.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            spent += times.user + times.system
    return float(spent)


async def at_rest(trees: list[psutil.Process], *, calm_s: int = 2, patience_s: int = 30) -> None:
    """Wait until hardly any CPU is used any more: what is done later is part of the price."""
    calm, last = 0, sum(map(cpu_s, trees))
    for _ in range(patience_s):
        await asyncio.sleep(1)
        now = sum(map(cpu_s, trees))
        calm, last = (calm + 1 if now - last < 0.05 else 0), now
        if calm == calm_s:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What it costs to take samples in.")
    parser.add_argument("--hosts", type=int, default=HOSTS, help="with a hundred series each")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each series")
    parser.add_argument("--shape", choices=["W1", "W2"], help="only this one")
    options = parser.parse_args()
    chosen = [shape for shape in AIMS_S if options.shape in (None, shape.name)]
    main(options.hosts, options.rounds, chosen)

"""From commit to viewer, and what it costs the server: `make bench-live`.

Starts an embedded PostgreSQL and `infrawatch serve`. Ten batches a second bring the samples of a
hundred hosts; each viewer watches one host, all the same one or each with a selector of its own.
Latency runs from the acknowledgement of a batch until a viewer has the update; frames a core are
the frames sent in a second of the server's CPU, which includes taking the samples in. Rerun it
before and after a change and put both tables into the pull request.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, time_ns

import httpx
import psutil

from benchmarks.bench_ingest import cpu_s, serving
from benchmarks.watchers import Seen, watch, watch_deaf
from infrawatch.embedded.postgres import postgres_running
from infrawatch.store.migrations import upgrade

HOSTS = 100
BATCHES_A_SECOND = 10
AIM_P99_MS = 150
AIM_FRAMES = 20_000


@dataclass(frozen=True, slots=True)
class Case:
    viewers: int
    is_same: bool
    samples_a_second: int
    stuck: int = 0

    def selectors(self) -> Iterator[str]:
        for number in range(self.viewers):
            host = 0 if self.is_same else number % HOSTS
            other = "" if self.is_same else f',viewer!="{number}"'
            yield f'bench{{host="{host}"{other}}}'


CASES = [
    *(
        Case(viewers, is_same, samples)
        for samples in (1_000, 10_000)
        for is_same in (True, False)
        for viewers in (1, 100, 1_000)
    ),
    Case(500, is_same=True, samples_a_second=10_000),
    Case(500, is_same=True, samples_a_second=10_000, stuck=1),
]


@dataclass(frozen=True, slots=True)
class Result:
    latencies_ms: Sequence[float]
    frames: int
    cpu_s: float
    wall_s: float
    lost: int

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


async def main(root: Path, cases: Sequence[Case], seconds: float) -> None:
    """Measure and print."""
    print(
        f"{'viewers':>8} {'selectors':>10} {'samples/s':>10} {'stuck':>6}   {'p50':>6} {'p99':>6}"
        f" ms   {'frames/s':>9} {'CPU':>5} {'frames/s/core':>14}  {'lost':>4}"
    )
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(postgres_running(root / "postgres"))
        await upgrade(postgres.endpoint.url())
        server, url = await stack.enter_async_context(serving(postgres.endpoint.url()))
        for case in cases:
            print(to_line(case, await measure(case, url, server, seconds)), flush=True)
    print(f"aims: p99 at 500 viewers {AIM_P99_MS} ms; {AIM_FRAMES:,} frames/s/core")


async def measure(case: Case, url: str, server: psutil.Process, seconds: float) -> Result:
    """Bring samples for so long, with the case's viewers watching."""
    seen = Seen()
    async with httpx.AsyncClient(base_url=url, verify=False, timeout=30) as client:
        await push(client, case, time_ns() // 1_000_000)  # every series exists
        watchers = await watch(url, list(case.selectors()), seen)
        deaf = [watch_deaf(url, "bench") for _ in range(case.stuck)]
        frames, cpu, started = seen.frames, cpu_s(server), perf_counter()
        acknowledged: dict[int, float] = {}
        while (now := perf_counter()) - started < seconds:
            batch_ms = time_ns() // 1_000_000
            await push(client, case, batch_ms)
            acknowledged[batch_ms] = perf_counter()
            await asyncio.sleep(max(0.0, 1 / BATCHES_A_SECOND - (perf_counter() - now)))
        await asyncio.sleep(0.5)  # for what is under way
        wall_s = perf_counter() - started
        spent_s = cpu_s(server) - cpu
        for watcher in watchers:
            watcher.close()
        for connection in deaf:
            connection.close()
    latencies = [
        1000 * max(came - acknowledged[batch], 0)
        for batch, came in seen.updates
        if batch in acknowledged
    ]
    return Result(latencies, seen.frames - frames, spent_s, wall_s, seen.lost)


async def push(client: httpx.AsyncClient, case: Case, batch_ms: int) -> None:
    """One batch of all hosts, whose first sample of each series has the time of the batch."""
    metrics = case.samples_a_second // BATCHES_A_SECOND // HOSTS
    series = [
        {
            "metric": "bench",
            "labels": {"host": str(host), "part": str(part)},
            "samples": [[batch_ms, part]],
        }
        for host in range(HOSTS)
        for part in range(metrics)
    ]
    answer = await client.post("/v1/samples", json={"series": series})
    answer.raise_for_status()


def to_line(case: Case, result: Result) -> str:
    """One row of the table."""
    kind = "same" if case.is_same else "different"
    return (
        f"{case.viewers:>8,} {kind:>10} {case.samples_a_second:>10,} {case.stuck:>6}"
        f"   {result.percentile_ms(50):>6.1f} {result.percentile_ms(99):>6.1f}   "
        f"   {result.frames / result.wall_s:>9,.0f} {result.cpu_s / result.wall_s:>5.0%}"
        f" {result.frames / result.cpu_s:>14,.0f}  {result.lost:>4}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="From commit to viewer.")
    parser.add_argument("--seconds", type=float, default=5, help="for each row")
    parser.add_argument("--viewers", type=int, help="only rows with so many")
    options = parser.parse_args()
    wanted = [case for case in CASES if options.viewers in (None, case.viewers)]
    with tempfile.TemporaryDirectory(prefix="infrawatch-bench-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL runs as another user when we are root
        asyncio.run(main(Path(directory), wanted, options.seconds))

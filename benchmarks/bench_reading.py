"""How long answers take while samples pour in: `make bench-reading`.

Starts an embedded PostgreSQL and `infrawatch serve`. A thousand hosts (workload.py) have sent a
sample of each of their hundred series every two seconds for a quarter of an hour, and go on to do
so over native JSON: 50,000 samples a second. Meanwhile it asks `/v1/range` for the last 15 minutes
again and again, and prints medians beside their aims, and how much was really taken in.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.bench_ingest import JSON, serving
from benchmarks.bench_store import Bench, Matrix, find_series, measured, show
from benchmarks.driver import Line, drive
from benchmarks.workload import W1, Batch, Workload

HOSTS = 1_000
EVERY_S = 2.0
PARTS = 10
"""A round is sent in so many parts, one after the other, so that the stream is even."""

MINUTES = 15.0
SECONDS = 60.0
CONNECTIONS = 4
ROUNDS_A_PASS = 10
"""A million samples: what a running server compacts at once."""

_MARK_MS = 7_777_777_777_777
"""Stands in a body where its time will be."""


class Question(NamedTuple):
    """Asked over the last 15 minutes."""

    name: str
    aim_ms: float
    match: str


async def main(hosts: int, minutes: float, seconds: float) -> None:
    """Measure and print."""
    workload = Workload.generate(hosts=hosts, rounds=1, end_ms=_MARK_MS)
    workload = Workload(workload.names, [[_MARK_MS]] * len(workload.names), workload.values)
    with tempfile.TemporaryDirectory(prefix="infrawatch-bench-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL runs as another user when we are root
        measure = partial(read_while_writing, workload=workload, minutes=minutes, seconds=seconds)
        await measured(Path(directory) / "reading", Matrix.of(workload), measure)


async def read_while_writing(
    bench: Bench, matrix: Matrix, *, workload: Workload, minutes: float, seconds: float
) -> None:
    """Fill the store, then ask while more comes."""
    await _remember(bench, matrix, minutes)
    hosts = list(dict.fromkeys(labels["host"] for _, labels in workload.names))
    questions = (
        Question("1 series", 25, f'node_load1{{host="{hosts[0]}"}}'),
        Question("100 series of a host", 40, f'{{host="{hosts[1]}"}}'),
        Question("a metric of 100 hosts", 120, f'node_load1{{host=~"{"|".join(hosts[:100])}"}}'),
    )
    async with serving(bench.url) as (_, address), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_send(address, list(workload.batches(W1, JSON)), seconds))
        took_s = await _asked(address, questions, sending)
    for question in questions:
        show(question.name, 1_000 * statistics.median(took_s[question]), "ms", question.aim_ms)
    asked = sum(map(len, took_s.values()))
    print(f"  {sending.result():,.0f} samples/s taken in while {asked} questions were answered")


async def _remember(bench: Bench, matrix: Matrix, minutes: float) -> None:
    """What was sent before, as compaction would have left it."""
    ids = await bench.register(matrix.names)
    rounds = int(minutes * 60 / EVERY_S)
    start_us = time.time_ns() // 1_000 - int(rounds * EVERY_S * 1e6)
    random = np.random.default_rng(1)
    for first in range(0, rounds, ROUNDS_A_PASS):
        numbers = np.arange(first, min(first + ROUNDS_A_PASS, rounds))
        times_us = np.tile(start_us + numbers * int(EVERY_S * 1e6), (len(ids), 1))
        values = matrix.values + random.integers(0, 1_000, times_us.shape)
        part = Matrix(matrix.names, times_us, values)
        await bench.write(part, ids, range(len(numbers)))
        await bench.compact()
    print(f"{len(ids):,} series with {rounds} samples each, of the last {minutes:g} minutes")


async def _send(address: str, batches: Sequence[Batch], seconds: float) -> float:
    """Send rounds, a part at a time; answers how many samples a second were taken in."""
    size = -(-len(batches) // PARTS)
    samples, started = 0, time.perf_counter()
    for number in range(int(seconds / EVERY_S * PARTS)):
        early_s = started + number * EVERY_S / PARTS - time.perf_counter()
        await asyncio.sleep(max(early_s, 0))
        now = str(time.time_ns() // 1_000_000).encode()
        place = number % PARTS * size
        part = [
            batch._replace(body=batch.body.replace(str(_MARK_MS).encode(), now))
            for batch in batches[place : place + size]
        ]
        url = f"{address}/v1/samples"
        outcome = await drive(url, JSON.headers, part, connections=CONNECTIONS)
        samples += outcome.samples
    return samples / (time.perf_counter() - started)


async def _asked(
    address: str, questions: Sequence[Question], sending: asyncio.Task[float]
) -> dict[Question, list[float]]:
    """How long each answer took, one after the other, until nothing is sent any more."""
    took_s: dict[Question, list[float]] = {one: [] for one in questions}
    span = {"start": "-15m", "end": "now", "step": "30s", "fn": "avg"}
    wanted = {question: {"match": question.match, **span} for question in questions}
    async with Line.to(address) as line:
        for question in questions:
            assert await find_series(line, "/v1/range", wanted[question])
        while not sending.done():
            for question in questions:
                started = time.perf_counter()
                await line.ask("/v1/range", wanted[question])
                took_s[question].append(time.perf_counter() - started)
    return took_s


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How long answers take while samples pour in.")
    parser.add_argument("--hosts", type=int, default=HOSTS, help="with a hundred series each")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of samples sent before")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of sending and asking")
    options = parser.parse_args()
    asyncio.run(main(options.hosts, options.minutes, options.seconds))

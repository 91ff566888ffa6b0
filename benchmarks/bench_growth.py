"""Does it get slower as it grows? `make bench-growth`, or `make bench-growth ARGS="--parts 2"`.

Fills an embedded PostgreSQL with the series of the reference workload (workload.py), as a running
server would: in groups, compacted every four minutes of their time, windows merged as they close,
slots of the journal emptied. After each ten million samples it prints what these cost, in CPU
seconds of this process and of PostgreSQL's together for each million samples, how large the store
is, and how long the same question over the latest hour takes. All of it should stay as it is.
"""

import argparse
import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.bench_ingest import serving
from benchmarks.bench_store import (
    CHUNKS,
    HOSTS,
    ROLLUPS,
    ROUNDS_A_PASS,
    Bench,
    Matrix,
    find_series,
    measured,
    median_s,
)
from benchmarks.driver import Line
from benchmarks.workload import STEP_S, Workload
from infrawatch.model.samples import Int64s
from infrawatch.model.timerange import from_us
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.upkeep import compaction
from infrawatch.upkeep.slots import empty_all_slots

PART_SAMPLES = 10_000_000
PARTS = 5
PASS_US = ROUNDS_A_PASS * STEP_S * 1_000_000
MATCH = "node_network_receive_bytes_total"
"""Three hundred series, of a hundred hosts."""


async def main(hosts: int, parts: int) -> None:
    """Measure and print."""
    names = hosts * 100
    rounds = PART_SAMPLES // names
    # The last part ends now; each holds the same values, at times of its own.
    start_ms = time.time_ns() // 1_000_000 - (parts - 1) * rounds * STEP_S * 1_000
    with tempfile.TemporaryDirectory(prefix="infrawatch-bench-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL runs as another user when we are root
        first = Matrix.of(Workload.generate(hosts=hosts, rounds=rounds, end_ms=start_ms))
        await measured(Path(directory) / "growth", first, partial(grow, parts=parts))


async def grow(bench: Bench, first: Matrix, *, parts: int) -> None:
    """Print a line for each part."""
    ids = await bench.register(first.names)
    print(f"{len(ids):,} series, a sample every {STEP_S} s; CPU s per million samples")
    print(
        f"{'samples':>12} {'writing':>8} {'compaction':>10} {'merge':>7} {'bytes':>6} {'hour':>8}"
    )
    rounds = first.values.shape[1]
    for part in range(parts):
        later_us = part * rounds * STEP_S * 1_000_000
        matrix = Matrix(first.names, first.times_us + later_us, first.values)
        writing_s, compaction_s, merge_s = await _live_through(bench, matrix, ids)
        samples = (part + 1) * matrix.values.size
        size = await bench.bytes_on_disk((*CHUNKS, *ROLLUPS)) / samples
        hour_ms = 1000 * await _hour_s(bench, int(matrix.times_us.max()))
        print(
            f"{samples:>12,} {writing_s:>8.2f} {compaction_s:>10.2f} {merge_s:>7.2f}"
            f" {size:>6.2f} {hour_ms:>5.0f} ms",
            flush=True,
        )


async def _live_through(bench: Bench, matrix: Matrix, ids: Int64s) -> tuple[float, float, float]:
    """What writing, compaction and merging cost for each million samples."""
    rounds = matrix.values.shape[1]
    spent = {"write": 0.0, "compact": 0.0, "merge": 0.0}
    for start in range(0, rounds, ROUNDS_A_PASS):
        end = min(start + ROUNDS_A_PASS, rounds)
        spent["write"] += sum(await bench.spent(bench.write(matrix, ids, range(start, end))))
        spent["compact"] += sum(await bench.spent(bench.compact()))
        now_us = int(matrix.times_us[:, end - 1].min())
        if now_us // WINDOW_US != (now_us - PASS_US) // WINDOW_US:
            spent["merge"] += sum(await bench.spent(_close(bench, now_us)))
    writing_s, compaction_s, merge_s = (
        seconds * 1e6 / matrix.values.size for seconds in spent.values()
    )
    return writing_s, compaction_s, merge_s


async def _close(bench: Bench, now_us: int) -> None:
    await compaction.merge_until(bench.database, from_us(now_us))
    await bench.vacuum(("chunks_head", *CHUNKS, *ROLLUPS))
    await empty_all_slots(bench.database)


async def _hour_s(bench: Bench, end_us: int) -> float:
    wanted = {
        "match": MATCH,
        "step": "1m",
        "fn": "rate",
        "by": "host",
        "across": "sum",
        "start": str(end_us / 1e6 - 3_600),
        "end": str(end_us / 1e6),
    }
    async with serving(bench.url) as (_, address), Line.to(address) as line:
        assert await find_series(line, "/v1/range", wanted)
        return await median_s(partial(line.ask, "/v1/range", wanted))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Does it get slower as it grows?")
    parser.add_argument("--hosts", type=int, default=HOSTS, help="with a hundred series each")
    parser.add_argument("--parts", type=int, default=PARTS, help="of ten million samples")
    options = parser.parse_args()
    asyncio.run(main(options.hosts, options.parts))

"""What the store costs: `make bench-store`, or `make bench-store ARGS="--hosts 20"`.

Starts an embedded PostgreSQL, commits the reference workload (workload.py) to the journal in groups
of 10,000, compacts and merges it, and asks it questions; then the same for four windows compacted
every ten minutes of their time, as a running server would. Prints what each costs beside its aim.
CPU is that of this process and of PostgreSQL's together. Where time is measured, the CPU behind it
is told too: on a machine that is busy with other things it says more. An answer has taken its time
when its last byte is here, compressed as for a browser; reading it takes Python as long again.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import psutil
from sqlalchemy import text

from benchmarks.bench_ingest import cpu_s, serving
from benchmarks.driver import Line
from benchmarks.workload import STEP_S, Workload
from infrawatch.embedded.postgres import postgres_running
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import Columns, Float64s, Int64s
from infrawatch.model.timerange import from_us
from infrawatch.runtime import settle
from infrawatch.store.chunks.codec import WINDOW_US
from infrawatch.store.database import Database, create_engine
from infrawatch.store.journal import JournalRepository
from infrawatch.store.migrations import upgrade
from infrawatch.store.samples import EVER, SampleRepository
from infrawatch.store.series import SeriesRepository
from infrawatch.store.writers import WriterRepository
from infrawatch.upkeep import compaction
from infrawatch.upkeep.slots import empty_all_slots

HOSTS = 100
ROUNDS = 300
GROUP_SAMPLES = 10_000
STEADY_HOSTS = 20
STEADY_ROUNDS = 4 * WINDOW_US // 1_000_000 // STEP_S
ROUNDS_A_PASS = 40
TENANT = 1
TIMES = 15

_BYTES = text("""
SELECT sum(pg_total_relation_size(relid))
FROM unnest(CAST(:tables AS regclass[])) AS parted, pg_partition_tree(parted)
""")
CHUNKS = ("chunks",)
ROLLUPS = ("rollups_5m", "rollups_1h")
_DECODE = text("SELECT count(value) FROM samples")
_BETWEEN = text("""
SELECT count(value) FROM samples_between(:start, :end) WHERE series_id = :id
""")


class Question(NamedTuple):
    """Asked over the last 75 minutes of the workload; `match` may name a `{host}`."""

    name: str
    aim_ms: float
    path: str
    match: str
    parameters: Mapping[str, str] = MappingProxyType({})


_RATE = MappingProxyType({"step": "1m", "fn": "rate", "by": "host", "across": "sum"})
_MAX = MappingProxyType({"step": "1m", "fn": "max", "by": "host", "across": "max"})

QUESTIONS = (
    Question("1 series, raw", 4, "/v1/samples", 'node_load1{{host="{host}"}}'),
    Question(
        *("100 series, avg 1m", 8, "/v1/range", '{{host="{host}"}}'),
        MappingProxyType({"step": "1m", "fn": "avg"}),
    ),
    Question("300 series, rate", 12, "/v1/range", "node_network_receive_bytes_total", _RATE),
    Question("800 series, rate", 25, "/v1/range", "node_cpu_user_seconds_total", _RATE),
    Question("10,000 series, max", 250, "/v1/range", '{{env="production"}}', _MAX),
)


@dataclass(frozen=True, slots=True)
class Matrix:
    """The workload as numbers: a row for each series, a column for each round."""

    names: list[SeriesName]
    times_us: Int64s
    values: Float64s

    @classmethod
    def of(cls, workload: Workload) -> "Matrix":
        return cls(
            [SeriesName.of(metric, labels) for metric, labels in workload.names],
            np.array(workload.times) * 1_000,
            np.array(workload.values),
        )

    def groups(self, ids: Int64s, rounds: range) -> Iterator[Columns]:
        """The samples of some rounds as they arrive, round by round, in groups."""
        for number in rounds:
            for start in range(0, len(ids), GROUP_SAMPLES):
                part = slice(start, start + GROUP_SAMPLES)
                yield Columns(ids[part], self.times_us[part, number], self.values[part, number])


class Took(NamedTuple):
    """The median, and how much CPU it took on average."""

    wall_s: float
    cpu_s: float


class Bench:
    """A database, and what is spent on it."""

    def __init__(self, url: str, database: Database, postmaster: psutil.Process) -> None:
        self.url = url
        self.database = database
        self._postmaster = postmaster
        self._turn = (0, 0)

    async def spent(self, work: Awaitable[object]) -> tuple[float, float]:
        """CPU seconds of ours and of PostgreSQL's that some work takes."""
        before = time.process_time(), cpu_s(self._postmaster)
        await work
        return time.process_time() - before[0], cpu_s(self._postmaster) - before[1]

    async def register(self, names: list[SeriesName]) -> Int64s:
        async with self.database.writing() as connection:
            ids = await SeriesRepository(connection, TENANT).resolve(names)
            self._turn = (await WriterRepository(connection).register()).writer, 0
        return np.array(ids, np.int64)

    async def write(self, matrix: Matrix, ids: Int64s, rounds: range) -> None:
        writer, seq = self._turn
        for columns in matrix.groups(ids, rounds):
            seq += 1
            async with self.database.committing() as connection:
                await JournalRepository(connection).append(writer, seq, columns)
        self._turn = writer, seq

    async def compact(self) -> None:
        await compaction.compact_until(self.database, datetime.now(UTC))

    async def compact_all(self) -> None:
        await compaction.compact_until(self.database, datetime.now(UTC), everything=True)
        await compaction.merge_until(self.database, compaction.EVERYTHING)
        await empty_all_slots(self.database)

    async def live_through(self, matrix: Matrix, ids: Int64s) -> None:
        """Compact every `ROUNDS_A_PASS` rounds, merge windows as they close; writing excluded."""
        rounds = matrix.values.shape[1]
        for start in range(0, rounds, ROUNDS_A_PASS):
            await self.write(matrix, ids, range(start, min(start + ROUNDS_A_PASS, rounds)))
            await self.compact()
            now_us = int(matrix.times_us[:, min(start + ROUNDS_A_PASS, rounds) - 1].min())
            before_us = now_us - ROUNDS_A_PASS * STEP_S * 1_000_000
            if now_us // WINDOW_US != before_us // WINDOW_US:
                await compaction.merge_until(self.database, from_us(now_us))
                await self.vacuum(("chunks_head", *CHUNKS, *ROLLUPS))

    async def vacuum(self, tables: Sequence[str]) -> None:
        """What autovacuum does in the two hours between a window's end and the next."""
        engine = create_engine(self.url).execution_options(isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(f"VACUUM {', '.join(tables)}"))
        await engine.dispose()

    async def bytes_on_disk(self, tables: Sequence[str]) -> int:
        """Indexes included, once autovacuum has been there."""
        await self.vacuum(tables)
        async with self.database.reading() as connection:
            wanted = {"tables": list(tables)}
            return int((await connection.execute(_BYTES, wanted)).scalar_one())

    async def read(self, ids: Int64s) -> "Took":
        async with self.database.reading() as connection:
            repository = SampleRepository(connection, max_samples=10_000_000)
            return await self.timed(lambda: repository.read(ids, EVER))

    async def decode(self) -> "Took":
        async with self.database.reading() as connection:
            return await self.timed(lambda: connection.execute(_DECODE), times=3)

    async def between(self, series_id: int, end_us: int) -> "Took":
        start_us = end_us - 3_600_000_000
        span = {"id": series_id, "start": from_us(start_us), "end": from_us(end_us)}
        async with self.database.reading() as connection:
            return await self.timed(lambda: connection.execute(_BETWEEN, span))

    async def timed(
        self,
        work: Callable[[], Awaitable[object]],
        *,
        times: int = TIMES,
        server: psutil.Process | None = None,
    ) -> "Took":
        """How long some work takes, of PostgreSQL and of a server or, without one, of ours."""

        def spent_s() -> float:  # PostgreSQL is a child of this process, not part of it
            ours_s = time.process_time() if server is None else cpu_s(server)
            return ours_s + cpu_s(self._postmaster)

        before_s = spent_s()
        wall_s = await median_s(work, times)
        return Took(wall_s, (spent_s() - before_s) / times)


async def main(hosts: int, rounds: int) -> None:
    """Measure and print."""
    end_ms = time.time_ns() // 1_000_000
    with tempfile.TemporaryDirectory(prefix="infrawatch-bench-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL runs as another user when we are root
        matrix = Matrix.of(Workload.generate(hosts=hosts, rounds=rounds, end_ms=end_ms))
        await measured(Path(directory) / "bulk", matrix, measure_bulk)
        steady = Workload.generate(
            hosts=min(hosts, STEADY_HOSTS), rounds=STEADY_ROUNDS, end_ms=end_ms
        )
        await measured(Path(directory) / "steady", Matrix.of(steady), measure_steady)


async def measure_bulk(bench: Bench, matrix: Matrix) -> None:
    """Everything arrives, is compacted at once, and read."""
    ids = await bench.register(matrix.names)
    millions = matrix.values.size / 1e6
    print(f"{len(ids):,} series of {matrix.values.shape[1]} samples, compacted at once")
    _, postgres_s = await bench.spent(bench.write(matrix, ids, range(matrix.values.shape[1])))
    show("journal, PostgreSQL alone", postgres_s / millions, "s/M", 0.25)
    ours_s, postgres_s = await bench.spent(bench.compact_all())
    show("compaction and merge", (ours_s + postgres_s) / millions, "s/M", 0.45)
    await _show_sizes(bench, matrix)
    some = ids[:1_000]
    some_millions = len(some) * matrix.values.shape[1] / 1e6
    show_speed("1,000 series into numpy", some_millions, await bench.read(some), 10)
    show_speed("view samples", millions, await bench.decode(), 1.8)
    end_us = int(matrix.times_us.max())
    show_time("samples_between, an hour", await bench.between(int(ids[0]), end_us), 5)
    async with serving(bench.url) as (server, address), Line.to(address) as line:
        host = dict(matrix.names[0].labels)["host"]
        span = {"start": str(end_us / 1e6 - 4_500), "end": str(end_us / 1e6)}
        for question in QUESTIONS:
            wanted = {"match": question.match.format(host=host), **span, **question.parameters}
            assert await find_series(line, question.path, wanted)
            took = await bench.timed(partial(line.ask, question.path, wanted), server=server)
            show_time(question.name, took, question.aim_ms)


async def measure_steady(bench: Bench, matrix: Matrix) -> None:
    """Four windows of a scrape every 15 s; what writing costs is taken off."""
    ids = await bench.register(matrix.names)
    millions = matrix.values.size / 1e6
    print(f"{len(ids):,} series for {STEADY_ROUNDS * STEP_S // 3600} hours, as they come")
    both_s = sum(await bench.spent(bench.live_through(matrix, ids)))
    await bench.compact_all()
    written = Matrix(matrix.names, matrix.times_us + 1, matrix.values)
    writing_s = sum(await bench.spent(bench.write(written, ids, range(STEADY_ROUNDS))))
    show("compaction and merge", (both_s - writing_s) / millions, "s/M", 0.6)
    await _show_sizes(bench, matrix)


async def _show_sizes(bench: Bench, matrix: Matrix) -> None:
    for name, tables, aim in (("chunks", CHUNKS, 3.2), ("rollups", ROLLUPS, 0.5)):
        size = await bench.bytes_on_disk(tables)
        show(f"{name} on disk", size / matrix.values.size, "bytes a sample", aim)


async def measured(
    data_dir: Path, matrix: Matrix, measure: Callable[[Bench, Matrix], Awaitable[None]]
) -> None:
    settle()  # as a server does
    async with postgres_running(data_dir) as postgres:
        url = postgres.endpoint.url()
        await upgrade(url)
        pid = (postgres.home.cluster / "postmaster.pid").read_text("utf-8").split()[0]
        async with Database.open(url) as database:
            await measure(Bench(url, database, psutil.Process(int(pid))), matrix)


async def find_series(line: Line, path: str, wanted: Mapping[str, str]) -> list[object]:
    """What is answered: whoever times an answer looks at one beforehand, to read it takes time."""
    answer: dict[str, list[object]] = json.loads(await line.ask(path, wanted, encodings="identity"))
    return answer["series"]


async def median_s(work: Callable[[], Awaitable[object]], times: int = TIMES) -> float:
    took_s: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        took_s.append(time.perf_counter() - started)
    return statistics.median(took_s)


def show_speed(name: str, millions: float, took: Took, aim: float) -> None:
    """So many millions of samples, in a second that passes and in one of CPU."""
    show(name, millions / took.wall_s, "M samples/s", aim, is_least=True)
    print(f"{'':36} {millions / took.cpu_s:>9.2f} M samples/s of CPU")


def show_time(name: str, took: Took, aim_ms: float) -> None:
    show(name, 1_000 * took.wall_s, "ms", aim_ms)
    print(f"{'':36} {1_000 * took.cpu_s:>9.2f} ms of CPU")


def show(name: str, found: float, unit: str, aim: float, *, is_least: bool = False) -> None:
    is_met = found >= aim if is_least else found <= aim
    bound = ">=" if is_least else "<="
    print(f"  {name:34} {found:>9.2f} {unit:15} {bound} {aim:<6g} {'' if is_met else 'missed'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What the store costs.")
    parser.add_argument("--hosts", type=int, default=HOSTS, help="with a hundred series each")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each series")
    options = parser.parse_args()
    asyncio.run(main(options.hosts, options.rounds))

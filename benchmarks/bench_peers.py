"""The same bodies to InfraWatch and to its peers, in turn, in one run: `make bench-peers`.

Peers are Debian's packages victoria-metrics, prometheus and influxdb; those not installed are left
out. CPU is that of all processes of a server from the first request, sent when it is at rest after
its start, until it is at rest again; for InfraWatch with what `infrawatch compact --all` takes,
which it would do by itself later (less what that command takes, in all processes, when there is
nothing to compact). Bytes are what then lies on disk, ours without PostgreSQL's log, whose
files are used again. InfraWatch acknowledges after the commit is on disk (fsync); VictoriaMetrics
keeps up to five seconds in memory, the others flush their logs later. They use all cores;
InfraWatch is one process by default, and in a row of its own has a worker for each core
(docs/operating.md).

Whatever else runs on the machine changes single figures by a fifth. With `--runs 3` each server is
measured three times, taking turns; its row is the run whose CPU is the median.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import ClassVar

import httpx
import psutil

from benchmarks.bench_ingest import at_rest, cpu_s, serving
from benchmarks.driver import Outcome, drive
from benchmarks.encodings import Encoding, LineProtocol, NativeJson, RemoteWrite
from benchmarks.workload import W1, W2, Shape, Workload
from infrawatch.embedded.postgres import postgres_running
from infrawatch.store.database import Database
from infrawatch.store.migrations import upgrade

CONNECTIONS = 8
STARTS_WITHIN_S = 30

ENCODINGS: Mapping[str, Encoding] = {
    "remote write": RemoteWrite(),
    "line protocol": LineProtocol(),
    "JSON": NativeJson(),
}

SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class
WHERE relkind = 'r' AND relname ~ '^(chunks|rollups|journal|series)'
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A server at work: its address and processes, how it is brought to rest, and its size then."""

    address: str
    trees: list[psutil.Process]
    settle: Callable[[], Awaitable[float]]
    """Gives CPU seconds that other processes spent for it."""
    size_bytes: Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of a Debian package, and where it takes which encoding."""

    name: str
    program: str
    arguments: Sequence[str]
    paths: Mapping[str, str]

    @property
    def is_there(self) -> bool:
        return shutil.which(self.program) is not None

    @contextlib.asynccontextmanager
    async def running(self, data: Path) -> AsyncIterator[Running]:
        port = _free_port()
        (data / "empty.yml").write_text("global: {}\n")
        (data / "influx.conf").write_text(
            f'bind-address = "127.0.0.1:{_free_port()}"\n[meta]\ndir = "{data}/meta"\n'
            f'[data]\ndir = "{data}/data"\nwal-dir = "{data}/wal"\n'
            f'[http]\nbind-address = "127.0.0.1:{port}"\nlog-enabled = false\n'
        )
        process = await asyncio.create_subprocess_exec(
            self.program,
            *(one.format(port=port, data=data) for one in self.arguments),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        tree = psutil.Process(process.pid)
        try:
            await _ready(port)
            if self.name == "InfluxDB":
                await _create_influx_database(port)
            yield Running(
                f"http://127.0.0.1:{port}", [tree], _nothing_more, lambda: _size_below(data)
            )
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(SIGTERM)
            await process.wait()


@dataclass(frozen=True, slots=True)
class Ours:
    """`infrawatch serve` with its own PostgreSQL."""

    name: str = "InfraWatch"
    workers: int = 1

    is_there = True
    paths: ClassVar[Mapping[str, str]] = {
        "remote write": "/api/v1/write",
        "line protocol": "/write?precision=ms",
        "JSON": "/v1/samples",
    }

    @contextlib.asynccontextmanager
    async def running(self, data: Path) -> AsyncIterator[Running]:
        async with postgres_running(data) as postgres:
            url = postgres.endpoint.url()
            await upgrade(url)
            postmaster = (postgres.home.cluster / "postmaster.pid").read_text().split()[0]
            async with serving(url, workers=self.workers) as (server, address):
                trees = [psutil.Process(int(postmaster)), server]
                yield Running(address, trees, lambda: _compact(url), lambda: _chunk_bytes(url))


CORES = os.cpu_count() or 1

SERVERS: Sequence[Ours | Peer] = (
    Ours(),
    *([Ours(f"its {CORES} workers", CORES)] if CORES > 1 else []),
    Peer(
        "VictoriaMetrics",
        "victoria-metrics",
        ["-storageDataPath={data}/data", "-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=1"],
        {"remote write": "/api/v1/write", "line protocol": "/write?precision=ms"},
    ),
    Peer(
        "Prometheus",
        "prometheus",
        [
            "--config.file={data}/empty.yml",
            "--storage.tsdb.path={data}/data",
            "--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
        ],
        {"remote write": "/api/v1/write"},
    ),
    Peer(
        "InfluxDB",
        "influxd",
        ["-config", "{data}/influx.conf"],
        {"line protocol": "/write?db=bench&precision=ms"},
    ),
)


@dataclass(frozen=True, slots=True)
class Cost:
    outcome: Outcome
    cpu_s: float
    size_bytes: int


def main(hosts: int, rounds: int, encodings: Sequence[str], runs: int) -> None:
    """Measure and print, each server's row after the other."""
    workload = Workload.generate(hosts=hosts, rounds=rounds, end_ms=time.time_ns() // 1_000_000)
    print(f"{hosts * 100:,} series, {rounds} samples each, {CONNECTIONS} connections")
    print("missing, so left out:", ", ".join(s.name for s in SERVERS if not s.is_there) or "none")
    for name in encodings:
        taking = [server for server in SERVERS if server.is_there and name in server.paths]
        for shape in (W1, W2):
            print(
                f"\n{name} {shape.name:11} samples/s  CPU s/M   ratio   p50 ms   p99 ms  B/sample"
            )
            measured = [
                [asyncio.run(measure(server, name, workload, shape)) for server in taking]
                for _ in range(runs)
            ]
            costs = [median_cost(of_server) for of_server in zip(*measured, strict=True)]
            for server, cost in zip(taking, costs, strict=True):
                print(to_line(server.name, cost, cost.cpu_s / costs[0].cpu_s))


async def measure(server: Ours | Peer, encoding: str, workload: Workload, shape: Shape) -> Cost:
    """What one encoding and shape cost a server that has never seen its series."""
    batches = list(workload.batches(shape, ENCODINGS[encoding]))
    with tempfile.TemporaryDirectory(prefix="infrawatch-peers-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL runs as another user when we are root
        data = Path(directory) / "data"
        data.mkdir()
        async with server.running(data) as running:
            await at_rest(running.trees)
            for_nothing_s = await settled_s(running)
            before = sum(map(cpu_s, running.trees))
            outcome = await drive(
                running.address + server.paths[encoding],
                ENCODINGS[encoding].headers,
                batches,
                connections=CONNECTIONS,
            )
            if outcome.refused:
                sys.exit(f"{server.name} refused: {outcome.refused[0].decode(errors='replace')}")
            await at_rest(running.trees)
            spent_s = sum(map(cpu_s, running.trees)) - before
            spent_s += await settled_s(running) - for_nothing_s
            return Cost(outcome, spent_s, await running.size_bytes())


async def settled_s(running: Running) -> float:
    """Bring a server to rest; return the CPU seconds of it, in whichever process."""
    before = sum(map(cpu_s, running.trees))
    elsewhere_s = await running.settle()
    await at_rest(running.trees)
    return sum(map(cpu_s, running.trees)) - before + elsewhere_s


def median_cost(costs: Sequence[Cost]) -> Cost:
    return sorted(costs, key=lambda cost: cost.cpu_s)[(len(costs) - 1) // 2]


def to_line(name: str, cost: Cost, ratio: float) -> str:
    outcome = cost.outcome
    per_million = cost.cpu_s / outcome.samples * 1e6
    return (
        f"  {name:16} {outcome.samples / outcome.wall_s:>12,.0f} {per_million:>8.2f} {ratio:>7.2f}"
        f" {outcome.percentile_ms(50):>8.1f} {outcome.percentile_ms(99):>8.1f}"
        f" {cost.size_bytes / outcome.samples:>9.2f}"
    )


async def _compact(url: str) -> float:
    """Compact all there is; return the CPU seconds of that process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrawatch", "compact", "--all"),
        env={**os.environ, "INFRAWATCH_DATABASE_URL": url},
        stdout=DEVNULL,
    )
    if await process.wait():
        sys.exit("`infrawatch compact --all` failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def _chunk_bytes(url: str) -> int:
    async with Database.open(url) as database, database.reading() as connection:
        return int((await connection.exec_driver_sql(SIZE)).scalar_one())


async def _nothing_more() -> float:
    return 0.0


async def _size_below(directory: Path) -> int:
    files = (path for path in directory.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


async def _create_influx_database(port: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sf", "-XPOST", f"http://127.0.0.1:{port}/query"),
        *("--data-urlencode", "q=CREATE DATABASE bench"),
        stdout=DEVNULL,
    )
    await process.wait()


async def _ready(port: int) -> None:
    """Wait until a server listens, and does not say that it has only just begun (Prometheus)."""
    async with asyncio.timeout(STARTS_WITHIN_S), httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(f"http://127.0.0.1:{port}/-/ready")
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="InfraWatch and its peers on the same bodies.")
    parser.add_argument("--hosts", type=int, default=100, help="with a hundred series each")
    parser.add_argument("--rounds", type=int, default=300, help="samples of each series")
    parser.add_argument("--encoding", action="append", choices=list(ENCODINGS))
    parser.add_argument("--runs", type=int, default=1, help="of each server, taking turns")
    options = parser.parse_args()
    chosen = options.encoding or list(ENCODINGS)
    main(options.hosts, options.rounds, chosen, options.runs)

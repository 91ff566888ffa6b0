"""The reference workload: what a hundred hosts say of themselves.

Each host has a hundred series, as an agent of node_exporter's kind names them, with four labels
beside the device, and a sample every 15 seconds. The same samples are cut into requests two ways:

    W1   1,000 series, 1 sample each    a scrape of ten hosts
    W2   100 series, 60 samples each    an agent that was away for a quarter of an hour

Values behave as those of real machines do, since their digits are what is sent and parsed: counters
of bytes, counters of seconds with two decimals, sizes that move by pages, percentages that wander.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.encodings import Encoding

STEP_S = 15

Floats = NDArray[np.float64]
Behaviour = Callable[[Generator, int], Floats]


def _count(random: Generator, rounds: int) -> Floats:
    """Events or bytes since boot, some hosts busier than others."""
    busiest = int(random.integers(1, 100_000))
    start = int(random.integers(1_000_000_000))
    return (start + np.cumsum(random.integers(busiest, size=rounds))).astype(np.float64)


def _seconds(random: Generator, rounds: int) -> Floats:
    """Seconds since boot that something was busy."""
    seconds: Floats = random.uniform(0, 1e5) + np.cumsum(random.uniform(0, STEP_S, rounds))
    return seconds.round(2)


def _size(random: Generator, rounds: int) -> Floats:
    """Bytes in whole pages, wandering."""
    start = int(random.integers(10**9, 10**11))
    return (start + 4096 * np.cumsum(random.integers(-500, 500, rounds))).astype(np.float64)


def _share(random: Generator, rounds: int) -> Floats:
    """Between 0 and 100, wandering."""
    wandering: Floats = random.uniform(20, 80) + np.cumsum(random.uniform(-2, 2, rounds))
    return np.clip(wandering, 0, 100).round(2)


# Device by device, a hundred series.
_FAMILIES: Sequence[tuple[Sequence[str], Mapping[str, Behaviour]]] = (
    (
        [f"cpu{number}" for number in range(8)],
        {
            **{
                f"node_cpu_{mode}_seconds_total": _seconds
                for mode in ("user", "system", "iowait", "idle")
            },
            "node_cpu_frequency_hertz": _size,
        },
    ),
    (
        ["nvme0n1", "nvme1n1", "sda", "sdb"],
        {
            "node_disk_read_bytes_total": _count,
            "node_disk_written_bytes_total": _count,
            "node_disk_reads_completed_total": _count,
            "node_disk_writes_completed_total": _count,
            "node_disk_io_time_seconds_total": _seconds,
            "node_disk_utilization_percent": _share,
            "node_filesystem_avail_bytes": _size,
            "node_filesystem_files_free": _size,
        },
    ),
    (
        ["eth0", "eth1", "bond0"],
        {
            f"node_network_{way}_{what}_total": _count
            for way, what in product(("receive", "transmit"), ("bytes", "packets", "errs"))
        },
    ),
    (
        ["system"],
        {
            **{f"node_load{minutes}": _share for minutes in (1, 5, 15)},
            "node_memory_MemAvailable_bytes": _size,
            "node_memory_Cached_bytes": _size,
            "node_memory_used_percent": _share,
            "node_swap_used_percent": _share,
            "node_context_switches_total": _count,
            "node_processes_running": _share,
            "node_temperature_celsius": _share,
        },
    ),
)
_REGIONS = ("eu-west-1", "eu-central-1", "us-east-1", "us-west-2", "ap-southeast-1")
_SERVICES = (
    *("checkout-api", "payments", "search-indexer"),
    *("user-sessions", "edge-proxy", "billing-worker"),
)


class Shape(NamedTuple):
    """How samples are cut into requests."""

    name: str
    series: int
    samples: int


W1 = Shape("W1", series=1_000, samples=1)
W2 = Shape("W2", series=100, samples=60)


class Batch(NamedTuple):
    """The body of one request; batches of one `group` hold the same series, in order of time."""

    group: int
    samples: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Workload:
    """Names of series, and the times (ms) and values of each one's samples, oldest first."""

    names: Sequence[tuple[str, Mapping[str, str]]]
    times: Sequence[Sequence[int]]
    values: Sequence[Sequence[float]]

    @classmethod
    def generate(cls, *, hosts: int, rounds: int, end_ms: int, seed: int = 1) -> "Workload":
        """Make `rounds` samples of each series, the last ones at most 15 s before `end_ms`."""
        random = np.random.default_rng(seed)
        names: list[tuple[str, Mapping[str, str]]] = []
        all_times: list[Sequence[int]] = []
        all_values: list[Sequence[float]] = []
        for host in range(hosts):
            last_ms = end_ms - int(random.integers(STEP_S * 1000))
            times = [last_ms - 1000 * STEP_S * back for back in reversed(range(rounds))]
            for metric, labels, behaviour in _series(host):
                names.append((metric, labels))
                all_times.append(times)
                all_values.append(behaviour(random, rounds).tolist())
        return cls(names, all_times, all_values)

    def batches(self, shape: Shape, encoding: Encoding) -> Iterator[Batch]:
        """All samples, cut to a shape: every group's next batch, then every group's next."""
        heads = [encoding.head(metric, labels) for metric, labels in self.names]
        series = range(len(heads))
        for oldest in range(0, len(self.times[0]), shape.samples):
            part = slice(oldest, oldest + shape.samples)
            for group, first in enumerate(series[:: shape.series]):
                members = series[first : first + shape.series]
                body = encoding.body(
                    encoding.series(heads[n], self.times[n][part], self.values[n][part])
                    for n in members
                )
                yield Batch(group, len(members) * len(self.times[0][part]), body)


def _series(host: int) -> Iterator[tuple[str, dict[str, str], Behaviour]]:
    """Metric, labels and behaviour of each series of a host."""
    for devices, metrics in _FAMILIES:
        for device, (metric, behaviour) in product(devices, metrics.items()):
            labels = {
                "device": device,
                "env": "production",
                "host": f"ip-10-{host // 64}-{host % 64}-17.compute.internal",
                "region": _REGIONS[host % len(_REGIONS)],
                "service": _SERVICES[host % len(_SERVICES)],
            }
            yield metric, labels, behaviour

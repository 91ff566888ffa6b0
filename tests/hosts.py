"""Made-up hosts that send what node_exporter would, for pages to show."""

import math
from collections.abc import Sequence

from httpx import AsyncClient
from pushing import Batch, now_ms

GIB = 2**30
STEP_MS = 5_000


def series(
    metric: str, samples: Sequence[Sequence[float]], kind: str = "gauge", **labels: str
) -> Batch:
    return {"metric": metric, "labels": labels, "samples": samples, "type": kind}


def host(
    name: str,
    *,
    busy: float = 0.25,
    memory: float = 0.6,
    disk: float = 0.5,
    restless: float = 0.0,
    times: Sequence[int] | None = None,
) -> list[Batch]:
    """A host with two cores, so busy and so full; `restless` is how much that goes up and down."""
    told = times or times_until(now_ms())
    place = {"instance": name, "job": "node"}
    phase = sum(name.encode())

    def wave(time_ms: int, pace: float) -> float:
        at = time_ms / 1000 / pace + phase
        return restless * (math.sin(at) + 0.5 * math.sin(2.7 * at) + 0.3 * math.sin(9.1 * at))

    def gauge(metric: str, value: float, pace: float = 200.0, **labels: str) -> Batch:
        samples = [[time, value * (1 + 0.2 * wave(time, pace))] for time in told]
        return series(metric, samples, **place | labels)

    def counter(metric: str, per_s: float, pace: float = 60.0, **labels: str) -> Batch:
        # So that it rises by (1 + half a wave) times `per_s` at most, and never falls.
        samples = [[time, per_s * (time / 1000 + 0.2 * pace * wave(time, pace))] for time in told]
        return series(metric, samples, "counter", **place | labels)

    modes = {"idle": 1 - busy, "user": busy * 0.7, "system": busy * 0.3}
    cpus = [
        counter("node_cpu_seconds_total", share, cpu=cpu, mode=mode)
        for cpu in ("0", "1")
        for mode, share in modes.items()
    ]
    disks = place | {"mountpoint": "/", "fstype": "ext4"}
    memory_bytes, disk_bytes = 16 * GIB, 100 * GIB
    return [
        *cpus,
        *(gauge(f"node_load{n}", busy * 2, pace=n * 90.0) for n in (1, 5, 15)),
        series("node_memory_MemTotal_bytes", [[time, memory_bytes] for time in told], **place),
        gauge("node_memory_MemAvailable_bytes", memory_bytes * (1 - memory)),
        gauge("node_memory_MemFree_bytes", memory_bytes * (1 - memory) / 2),
        series("node_filesystem_size_bytes", [[time, disk_bytes] for time in told], **disks),
        gauge("node_filesystem_avail_bytes", disk_bytes * (1 - disk), 900, **disks),
        gauge("node_filesystem_free_bytes", disk_bytes * (1 - disk), 900, **disks),
        counter("node_network_receive_bytes_total", 2**20, 30, device="eth0"),
        counter("node_network_transmit_bytes_total", 2**19, 45, device="eth0"),
        counter("node_disk_read_bytes_total", 2**18, 25, device="sda"),
        counter("node_disk_written_bytes_total", 2**21, 50, device="sda"),
    ]


def times_until(end_ms: int, *, minutes: int = 14) -> Sequence[int]:
    """Every five seconds up to then."""
    return range(end_ms - minutes * 60_000, end_ms + 1, STEP_MS)


async def send(client: AsyncClient, *all_series: Batch) -> None:
    """Push, and see that it was taken."""
    answer = await client.post("/v1/samples", json={"series": all_series})
    assert answer.status_code == 200, answer.text

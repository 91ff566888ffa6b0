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
    until_ms: int | None = None,
    minutes: int = 14,
) -> list[Batch]:
    """A host with two cores, so busy and so full, that was heard until then."""
    end = until_ms or now_ms()
    times = range(end - minutes * 60_000, end + 1, STEP_MS)
    place = {"instance": name, "job": "node"}

    def gauge(metric: str, value: float, **labels: str) -> Batch:
        return series(metric, [[t, value] for t in times], **place, **labels)

    def counter(metric: str, per_s: float, wave: float = 0.0, **labels: str) -> Batch:
        points = [[t, per_s * (t / 1000 + wave * 40 * math.sin(t / 40_000)) % 1e12] for t in times]
        return series(metric, points, "counter", **place, **labels)

    cpus = [
        counter("node_cpu_seconds_total", share, wave, cpu=str(cpu), mode=mode)
        for cpu in (0, 1)
        for mode, share, wave in (
            ("idle", 1 - busy, 0.0),
            ("user", busy * 0.7, 0.5),
            ("system", busy * 0.3, 0.3),
        )
    ]
    return [
        *cpus,
        gauge("node_load1", busy * 2),
        gauge("node_memory_MemTotal_bytes", 16 * GIB),
        gauge("node_memory_MemAvailable_bytes", 16 * GIB * (1 - memory)),
        gauge("node_filesystem_size_bytes", 100 * GIB, mountpoint="/", fstype="ext4"),
        gauge("node_filesystem_avail_bytes", 100 * GIB * (1 - disk), mountpoint="/", fstype="ext4"),
        counter("node_network_receive_bytes_total", 2**20, 0.6, device="eth0"),
        counter("node_network_transmit_bytes_total", 2**19, 0.4, device="eth0"),
    ]


async def send(client: AsyncClient, *all_series: Batch) -> None:
    """Push, and see that it was taken."""
    answer = await client.post("/v1/samples", json={"series": all_series})
    assert answer.status_code == 200, answer.text

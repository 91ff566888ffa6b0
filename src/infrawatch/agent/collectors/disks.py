"""Disks on Linux: `/proc/diskstats`."""

import re
from collections.abc import Iterator
from pathlib import Path

from infrawatch.agent.readings import Family, Reading, counter, gauge

_EXCLUDED = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
"""node_exporter's default (`--collector.diskstats.device-exclude`): partitions, RAM disks."""

_SECTOR_BYTES = 512  # regardless of the disk's own sectors (kernel, block/stat.rst)
_TICK_S = 0.001


def _disk(name: str, description: str) -> Family:
    return counter(f"node_disk_{name}_total", description, "device")


_COLUMNS: tuple[tuple[Family, float], ...] = (
    (_disk("reads_completed", "The total number of reads completed successfully."), 1),
    (_disk("reads_merged", "The total number of reads merged."), 1),
    (_disk("read_bytes", "The total number of bytes read successfully."), _SECTOR_BYTES),
    (_disk("read_time_seconds", "The total number of seconds spent by all reads."), _TICK_S),
    (_disk("writes_completed", "The total number of writes completed successfully."), 1),
    (_disk("writes_merged", "The number of writes merged."), 1),
    (_disk("written_bytes", "The total number of bytes written successfully."), _SECTOR_BYTES),
    (
        _disk("write_time_seconds", "This is the total number of seconds spent by all writes."),
        _TICK_S,
    ),
    (gauge("node_disk_io_now", "The number of I/Os currently in progress.", "device"), 1),
    (_disk("io_time_seconds", "Total seconds spent doing I/Os."), _TICK_S),
    (
        _disk("io_time_weighted_seconds", "The weighted # of seconds spent doing I/Os."),
        _TICK_S,
    ),
    (_disk("discards_completed", "The total number of discards completed successfully."), 1),
    (_disk("discards_merged", "The total number of discards merged."), 1),
    (_disk("discarded_sectors", "The total number of sectors discarded successfully."), 1),
    (
        _disk("discard_time_seconds", "This is the total number of seconds spent by all discards."),
        _TICK_S,
    ),
    (_disk("flush_requests", "The total number of flush requests completed successfully"), 1),
    (
        _disk(
            "flush_requests_time_seconds",
            "This is the total number of seconds spent by all flush requests.",
        ),
        _TICK_S,
    ),
)


def read_disks(proc: Path) -> Iterator[Reading]:
    """Statistics of every disk since the machine started; older kernels have fewer columns."""
    for line in (proc / "diskstats").read_text(errors="replace").splitlines():
        _major, _minor, device, *numbers = line.split()
        if _EXCLUDED.fullmatch(device):
            continue
        for (family, factor), number in zip(_COLUMNS, numbers, strict=False):
            yield Reading(family, int(number) * factor, (device,))

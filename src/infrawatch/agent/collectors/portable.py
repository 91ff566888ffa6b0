"""Reads the host through psutil, where there is no `/proc`: macOS, BSD, Windows.

Names are node_exporter's for those systems, as far as psutil provides the figures.
"""

import platform
from collections.abc import Iterable, Iterator

import psutil

from infrawatch.agent.readings import Family, Reading, counter, gauge

_CPU = counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", "cpu", "mode")
_BOOT_TIME = gauge("node_boot_time_seconds", "Unix time of last boot.")
_UNAME = gauge(
    "node_uname_info",
    "Labeled system information.",
    "sysname",
    "release",
    "version",
    "machine",
    "nodename",
)
_LOADS = tuple(gauge(f"node_load{minutes}", f"{minutes}m load average.") for minutes in (1, 5, 15))
_FILESYSTEM_LABELS = ("device", "mountpoint", "fstype", "device_error")
_SIZE = gauge("node_filesystem_size_bytes", "Filesystem size in bytes.", *_FILESYSTEM_LABELS)
_AVAIL = gauge(
    "node_filesystem_avail_bytes",
    "Filesystem space available to non-root users in bytes.",
    *_FILESYSTEM_LABELS,
)
_READONLY = gauge("node_filesystem_readonly", "Filesystem read-only status.", *_FILESYSTEM_LABELS)
_ERROR = gauge(
    "node_filesystem_device_error",
    "Whether an error occurred while getting statistics for the given device.",
    *_FILESYSTEM_LABELS,
)
_MS = 0.001
_DISK = {
    "read_count": ("reads_completed", 1),
    "write_count": ("writes_completed", 1),
    "read_bytes": ("read_bytes", 1),
    "write_bytes": ("written_bytes", 1),
    "read_time": ("read_time_seconds", _MS),
    "write_time": ("write_time_seconds", _MS),
}
_DISK_FAMILIES: dict[str, tuple[Family, float]] = {
    field: (counter(f"node_disk_{name}_total", f"The total of {field} (psutil).", "device"), factor)
    for field, (name, factor) in _DISK.items()
}
_DEVICE_FAMILIES = {
    field: counter(f"node_network_{name}_total", f"Network device statistic {name}.", "device")
    for field, name in {
        "bytes_recv": "receive_bytes",
        "bytes_sent": "transmit_bytes",
        "packets_recv": "receive_packets",
        "packets_sent": "transmit_packets",
        "errin": "receive_errs",
        "errout": "transmit_errs",
        "dropin": "receive_drop",
        "dropout": "transmit_drop",
    }.items()
}
_MEMORY = {
    name: gauge(f"node_memory_{name}_bytes", f"Memory information field {name}_bytes.")
    for name in (
        "total",
        "available",
        "free",
        "active",
        "inactive",
        "wired",
        "swap_total",
        "swap_used",
    )
}


def read_cpu() -> Iterator[Reading]:
    for number, times in enumerate(psutil.cpu_times(percpu=True)):
        for mode, seconds in times._asdict().items():
            yield Reading(_CPU, seconds, (str(number), mode))


def read_loads() -> Iterable[Reading]:
    return map(Reading, _LOADS, psutil.getloadavg())


def read_memory() -> Iterator[Reading]:
    memory, swap = psutil.virtual_memory()._asdict(), psutil.swap_memory()
    for name, value in (memory | {"swap_total": swap.total, "swap_used": swap.used}).items():
        if family := _MEMORY.get(name):
            yield Reading(family, value)


def read_filesystems() -> Iterator[Reading]:
    for mount in psutil.disk_partitions():
        path, failure, usage = mount.mountpoint, "", None
        try:
            usage = psutil.disk_usage(path)
        except OSError as error:  # an empty drive, an unreachable share
            failure = error.strerror or "unknown"
        labels = (mount.device, path, mount.fstype, failure)
        yield Reading(_ERROR, bool(failure), labels)
        yield Reading(_READONLY, "ro" in mount.opts.split(","), labels)
        if usage:
            yield Reading(_SIZE, usage.total, labels)
            yield Reading(_AVAIL, usage.free, labels)


def read_disks() -> Iterator[Reading]:
    for device, counts in (psutil.disk_io_counters(perdisk=True) or {}).items():
        for field, (family, factor) in _DISK_FAMILIES.items():
            if (value := getattr(counts, field, None)) is not None:
                yield Reading(family, value * factor, (device,))


def read_devices() -> Iterator[Reading]:
    for device, counts in psutil.net_io_counters(pernic=True).items():
        for field, family in _DEVICE_FAMILIES.items():
            yield Reading(family, getattr(counts, field), (device,))


def read_host() -> Iterable[Reading]:
    uname = platform.uname()
    names = (uname.system, uname.release, uname.version, uname.machine, uname.node)
    return [Reading(_UNAME, 1, names), Reading(_BOOT_TIME, psutil.boot_time())]

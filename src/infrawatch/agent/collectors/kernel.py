"""The kernel's own figures on Linux: CPUs, processes, load, pressure, files, time, name."""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from infrawatch.agent.readings import Reading, counter, gauge

_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")
_IDLE = _MODES.index("idle")
_HOTPLUG_S = 3.0  # node_exporter's jumpBackSeconds: only a re-plugged CPU goes back this far

_CPU = counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", "cpu", "mode")
_GUEST = counter(
    "node_cpu_guest_seconds_total",
    "Seconds the CPUs spent in guests (VMs) for each mode.",
    "cpu",
    "mode",
)
_STAT = {
    b"intr": counter("node_intr_total", "Total number of interrupts serviced."),
    b"ctxt": counter("node_context_switches_total", "Total number of context switches."),
    b"processes": counter("node_forks_total", "Total number of forks."),
    b"btime": gauge("node_boot_time_seconds", "Node boot time, in unixtime."),
    b"procs_running": gauge("node_procs_running", "Number of processes in runnable state."),
    b"procs_blocked": gauge(
        "node_procs_blocked", "Number of processes blocked waiting for I/O to complete."
    ),
}
_LOADS = tuple(gauge(f"node_load{minutes}", f"{minutes}m load average.") for minutes in (1, 5, 15))
_PRESSURE = {
    ("cpu", b"some"): counter(
        "node_pressure_cpu_waiting_seconds_total",
        "Total time in seconds that processes have waited for CPU time",
    ),
    ("io", b"some"): counter(
        "node_pressure_io_waiting_seconds_total",
        "Total time in seconds that processes have waited due to IO congestion",
    ),
    ("io", b"full"): counter(
        "node_pressure_io_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IO congestion",
    ),
    ("memory", b"some"): counter(
        "node_pressure_memory_waiting_seconds_total",
        "Total time in seconds that processes have waited for memory",
    ),
    ("memory", b"full"): counter(
        "node_pressure_memory_stalled_seconds_total",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    ("irq", b"full"): counter(
        "node_pressure_irq_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IRQ congestion",
    ),
}
_FILES = (
    gauge("node_filefd_allocated", "File descriptor statistics: allocated."),
    gauge("node_filefd_maximum", "File descriptor statistics: maximum."),
)
_NUMBERS = {
    "random/entropy_avail": gauge("node_entropy_available_bits", "Bits of available entropy."),
    "random/poolsize": gauge("node_entropy_pool_size_bits", "Bits of entropy pool."),
}
_UNAME = gauge(
    "node_uname_info",
    "Labeled system information as provided by the uname system call.",
    "sysname",
    "release",
    "version",
    "machine",
    "nodename",
    "domainname",
)
_TIME = gauge("node_time_seconds", "System time in seconds since epoch (1970).")
_ZONE = gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.", "time_zone")


class Stat:
    """`/proc/stat`: seconds of each CPU by mode, interrupts, context switches, processes.

    Small decreases of a CPU's counters are suppressed: the kernel's idle and iowait may go
    back by a little (proc(5)), and `rate` would take that for a restart.
    """

    def __init__(self, proc: Path) -> None:
        self._path = proc / "stat"
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._seconds: dict[str, list[float]] = {}

    def __call__(self) -> Iterator[Reading]:
        for line in self._path.read_bytes().splitlines():
            name, _, rest = line.partition(b" ")
            if name.startswith(b"cpu") and len(name) > len(b"cpu"):
                yield from self._read_cpu(name[3:].decode(), rest)
            elif family := _STAT.get(name):
                yield Reading(family, int(rest.split(maxsplit=1)[0]))

    def _read_cpu(self, cpu: str, text: bytes) -> Iterable[Reading]:
        seconds = [int(ticks) / self._ticks_per_s for ticks in text.split()]
        before = self._seconds.get(cpu, seconds)
        if before[_IDLE] - seconds[_IDLE] < _HOTPLUG_S:
            seconds = [max(pair) for pair in zip(before, seconds, strict=True)]
        self._seconds[cpu] = seconds
        for mode, value in zip(_MODES, seconds, strict=False):
            yield Reading(_CPU, value, (cpu, mode))
        for mode, value in zip(_GUEST_MODES, seconds[len(_MODES) :], strict=False):
            yield Reading(_GUEST, value, (cpu, mode))


def read_loads() -> Iterable[Reading]:
    return map(Reading, _LOADS, os.getloadavg())


def read_pressure(proc: Path) -> Iterator[Reading]:
    """Pressure stall information; nothing where the kernel has none (CONFIG_PSI, `psi=1`)."""
    for resource in ("cpu", "io", "memory", "irq"):
        try:
            lines = (proc / "pressure" / resource).read_bytes().splitlines()
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EOPNOTSUPP}:
                continue
            raise
        for line in lines:
            kind, total = line.split(maxsplit=1)[0], line.rpartition(b"total=")[2]
            if family := _PRESSURE.get((resource, kind)):
                yield Reading(family, int(total) / 1e6)


def read_files(proc: Path) -> Iterable[Reading]:
    """File handles in use in the whole system, and their maximum."""
    allocated, _, maximum = (proc / "sys/fs/file-nr").read_bytes().split()
    return map(Reading, _FILES, (int(allocated), int(maximum)))


def read_entropy(proc: Path) -> Iterator[Reading]:
    for name, family in _NUMBERS.items():
        with suppress(FileNotFoundError):
            yield Reading(family, int((proc / "sys/kernel" / name).read_bytes()))


def read_uname(proc: Path) -> Iterable[Reading]:
    uname = os.uname()
    domain = (proc / "sys/kernel/domainname").read_text(errors="replace").strip()
    names = (uname.sysname, uname.release, uname.version, uname.machine, uname.nodename, domain)
    return [Reading(_UNAME, 1, names)]


def read_time() -> Iterable[Reading]:
    now = time.localtime()
    return [Reading(_TIME, time.time_ns() / 1e9), Reading(_ZONE, now.tm_gmtoff, (now.tm_zone,))]

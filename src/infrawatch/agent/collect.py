"""One pass over the host: run every collector; skip and count the ones that fail."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter

import structlog

from infrawatch.agent.collectors import (
    disks,
    filesystems,
    kernel,
    memory,
    network,
    portable,
    processes,
    sensors,
)
from infrawatch.agent.once_per_minute import OncePerMinute
from infrawatch.agent.readings import Collector, Reading, counter, gauge

log = structlog.get_logger(__name__)

_UP = gauge("up", "Whether the agent is collecting: always 1, and absent when it is not.")
_ERRORS = counter(
    "infrawatch_agent_collector_errors_total",
    "Failures of a collector since the agent started.",
    "collector",
)
_DURATION = gauge(
    "infrawatch_agent_collection_duration_seconds", "How long collecting all of this took."
)
_SUCCESS = gauge(
    "node_scrape_collector_success",
    "node_exporter: Whether a collector succeeded.",
    "collector",
)
_COLLECTOR_DURATION = gauge(
    "node_scrape_collector_duration_seconds",
    "node_exporter: Duration of a collector scrape.",
    "collector",
)


def host_collectors(*, system: str = sys.platform) -> dict[str, Collector]:
    """Every collector this operating system has, by the name node_exporter gives it."""
    if system == "linux":
        proc, sysfs = Path("/proc"), Path("/sys")
        return {
            "stat": kernel.Stat(proc),
            "loadavg": kernel.read_loads,
            "pressure": partial(kernel.read_pressure, proc),
            "filefd": partial(kernel.read_files, proc),
            "entropy": partial(kernel.read_entropy, proc),
            "uname": partial(kernel.read_uname, proc),
            "time": kernel.read_time,
            "meminfo": partial(memory.read_meminfo, proc),
            "vmstat": partial(memory.read_vmstat, proc),
            "diskstats": partial(disks.read_disks, proc),
            "filesystem": filesystems.Filesystems(proc),
            "netdev": partial(network.read_devices, proc),
            "netclass": partial(network.read_device_states, sysfs),
            "netstat": partial(network.read_protocols, proc),
            "sockstat": partial(network.read_sockets, proc),
            "conntrack": partial(network.read_conntrack, proc),
            "hwmon": partial(sensors.read_sensors, sysfs),
            "processes": processes.Processes(proc),
        }
    return {
        "cpu": portable.read_cpu,
        "loadavg": portable.read_loads,
        "meminfo": portable.read_memory,
        "diskstats": portable.read_disks,
        "filesystem": portable.read_filesystems,
        "netdev": portable.read_devices,
        "uname": portable.read_host,
        "time": kernel.read_time,
    }


class Collection:
    """Runs all collectors, one after the other; blocks for as long as they take."""

    def __init__(self, collectors: Mapping[str, Collector]) -> None:
        self._collectors = collectors
        self._failures: Counter[str] = Counter()
        self._once_per_minute = OncePerMinute()

    def run(self) -> list[Reading]:
        """Read everything once. A collector that fails contributes nothing, and is counted."""
        started = perf_counter()
        readings = [Reading(_UP, 1)]
        for name in self._collectors:
            readings += self._read(name)
        readings += (Reading(_ERRORS, self._failures[name], (name,)) for name in self._collectors)
        readings.append(Reading(_DURATION, perf_counter() - started))
        return readings

    def _read(self, name: str) -> Iterator[Reading]:
        started = perf_counter()
        try:
            # As a list: the readings from before a failure would be an incomplete picture.
            readings = list(self._collectors[name]())
        except Exception as error:  # noqa: BLE001  # the other collectors go on
            self._failures[name] += 1
            if self._once_per_minute(name):
                log.warning("collector_failed", collector=name, error=repr(error))
            readings = []
            is_success = False
        else:
            is_success = True
        yield from readings
        yield Reading(_SUCCESS, is_success, (name,))
        yield Reading(_COLLECTOR_DURATION, perf_counter() - started, (name,))

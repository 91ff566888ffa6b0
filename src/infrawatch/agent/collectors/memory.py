"""Memory on Linux: `/proc/meminfo` and the paging part of `/proc/vmstat`."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from infrawatch.agent.readings import Family, Reading, gauge

_MEMINFO_LINE = re.compile(rb"^([^:\s]+):\s+(\d+)( kB)?$", re.MULTILINE)
_VMSTAT_LINE = re.compile(rb"^((?:oom_kill|pgpg|pswp|pg.*fault)\S*) (\d+)$", re.MULTILINE)
"""node_exporter's default fields (`--collector.vmstat.fields`)."""


def read_meminfo(proc: Path) -> Iterator[Reading]:
    """Every field, in bytes; huge pages are counted in pages, as in the kernel."""
    for field, number, kib in _MEMINFO_LINE.findall((proc / "meminfo").read_bytes()):
        yield Reading(_meminfo_family(field, bool(kib)), int(number) * (1024 if kib else 1))


def read_vmstat(proc: Path) -> Iterator[Reading]:
    for field, number in _VMSTAT_LINE.findall((proc / "vmstat").read_bytes()):
        yield Reading(_vmstat_family(field), int(number))


@lru_cache(maxsize=256)
def _meminfo_family(field: bytes, in_kib: bool) -> Family:  # noqa: FBT001  # a cache key
    name = field.decode().replace("(", "_").replace(")", "") + ("_bytes" if in_kib else "")
    return gauge(f"node_memory_{name}", f"Memory information field {name}.")


@lru_cache(maxsize=256)
def _vmstat_family(field: bytes) -> Family:
    name = field.decode()
    return Family(f"node_vmstat_{name}", "unknown", f"/proc/vmstat information field {name}.")

"""The network on Linux: devices, protocols, sockets, tracked connections."""

import mmap
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from infrawatch.agent.readings import Family, Reading, counter, gauge

_DEVICE_COLUMNS = tuple(
    counter(f"node_network_{column}_total", f"Network device statistic {column}.", "device")
    for column in (
        "receive_bytes",
        "receive_packets",
        "receive_errs",
        "receive_drop",
        "receive_fifo",
        "receive_frame",
        "receive_compressed",
        "receive_multicast",
        "transmit_bytes",
        "transmit_packets",
        "transmit_errs",
        "transmit_drop",
        "transmit_fifo",
        "transmit_colls",
        "transmit_carrier",
        "transmit_compressed",
    )
)
_UP = gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.", "device")
_CARRIER = gauge("node_network_carrier", "Network device property: carrier", "device")
_MTU = gauge("node_network_mtu_bytes", "Network device property: mtu_bytes", "device")
_SPEED = gauge("node_network_speed_bytes", "Network device property: speed_bytes", "device")
_MEGABIT_BYTES = 1_000_000 // 8

_NETSTAT_FIELDS = re.compile(
    r"(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))"
)
"""node_exporter's default fields (`--collector.netstat.fields`)."""

_SNMP6_LINE = re.compile(r"^([A-Za-z]+6)(\S+)\s+(\d+)$", re.MULTILINE)

_SOCKETS_USED = gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.")
_PAGE_BYTES = mmap.PAGESIZE

_CONNTRACK = {
    "nf_conntrack_count": gauge(
        "node_nf_conntrack_entries",
        "Number of currently allocated flow entries for connection tracking.",
    ),
    "nf_conntrack_max": gauge(
        "node_nf_conntrack_entries_limit", "Maximum size of connection tracking table."
    ),
}


def read_devices(proc: Path) -> Iterator[Reading]:
    """`/proc/net/dev`: bytes, packets, errors and drops of every device, in both directions."""
    for line in (proc / "net/dev").read_text(errors="replace").splitlines()[2:]:
        device, _, numbers = line.rpartition(":")
        labels = (device.strip(),)
        for family, number in zip(_DEVICE_COLUMNS, numbers.split(), strict=True):
            yield Reading(family, int(number), labels)


def read_device_states(sys: Path) -> Iterator[Reading]:
    """`/sys/class/net`: whether devices are up, and how fast they are."""
    for device in (sys / "class/net").iterdir():
        state = _read_property(device, "operstate")
        if state is None:  # not a device, like bonding_masters, or one just removed
            continue
        labels = (device.name,)
        yield Reading(_UP, state == "up", labels)
        if carrier := _read_property(device, "carrier"):
            yield Reading(_CARRIER, int(carrier), labels)
        if mtu := _read_property(device, "mtu"):
            yield Reading(_MTU, int(mtu), labels)
        # A device that does not know its speed reports -1.
        if (speed := _read_property(device, "speed")) and int(speed) >= 0:
            yield Reading(_SPEED, int(speed) * _MEGABIT_BYTES, labels)


def read_protocols(proc: Path) -> Iterator[Reading]:
    """Counters of TCP, UDP, IP and ICMP, also for IPv6 where it is enabled."""
    for name in ("net/netstat", "net/snmp"):
        lines = (proc / name).read_text().splitlines()
        for names, numbers in zip(lines[::2], lines[1::2], strict=True):
            protocol, *fields = names.split()
            for field, number in zip(fields, numbers.split()[1:], strict=True):
                if family := _netstat_family(protocol.rstrip(":"), field):
                    yield Reading(family, int(number))
    with suppress(FileNotFoundError):
        text = (proc / "net/snmp6").read_text()
        for protocol, field, number in _SNMP6_LINE.findall(text):
            if family := _netstat_family(protocol, field):
                yield Reading(family, int(number))


def read_sockets(proc: Path) -> Iterator[Reading]:
    for name in ("net/sockstat", "net/sockstat6"):
        with suppress(FileNotFoundError):
            for line in (proc / name).read_text().splitlines():
                yield from _read_sockets(line)


def read_conntrack(proc: Path) -> Iterator[Reading]:
    """Tracked connections; nothing if netfilter does not track connections."""
    for name, family in _CONNTRACK.items():
        with suppress(FileNotFoundError):
            yield Reading(family, int((proc / "sys/net/netfilter" / name).read_bytes()))


def _read_property(device: Path, name: str) -> str | None:
    # Drivers differ in the errors they give for values that they do not know.
    try:
        return (device / name).read_text().strip()
    except OSError:
        return None


def _read_sockets(line: str) -> Iterator[Reading]:
    protocol, _, text = line.partition(":")
    pairs = text.split()
    for state, number in zip(pairs[::2], map(int, pairs[1::2]), strict=True):
        if protocol == "sockets":
            yield Reading(_SOCKETS_USED, number)
            continue
        yield Reading(_sockstat_family(protocol, state), number)
        if state == "mem":
            yield Reading(_sockstat_family(protocol, "mem_bytes"), number * _PAGE_BYTES)


@lru_cache(maxsize=4096)
def _netstat_family(protocol: str, field: str) -> Family | None:
    key = f"{protocol}_{field}"
    if not _NETSTAT_FIELDS.fullmatch(key):
        return None
    return Family(f"node_netstat_{key}", "unknown", f"Statistic {protocol}{field}.")


@lru_cache(maxsize=256)
def _sockstat_family(protocol: str, state: str) -> Family:
    return gauge(
        f"node_sockstat_{protocol}_{state}", f"Number of {protocol} sockets in state {state}."
    )

"""What is read from a Linux host: a small one made of files, and this machine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest

from infrawatch.agent.collect import Collection, host_collectors
from infrawatch.agent.collectors import disks, kernel, memory, network, sensors
from infrawatch.agent.collectors.filesystems import Filesystems
from infrawatch.agent.readings import Reading, gauge

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="this machine has no /proc")

STAT = """\
cpu  300 20 30 4000 5 6 7 8 100 10
cpu0 100 10 20 2000 3 4 5 6 50 5
cpu1 200 10 10 2000 2 2 2 2 50 5
intr 1234 1 2 3
ctxt 5678
btime 1790000000
processes 91
procs_running 2
procs_blocked 1
softirq 10 1 2
"""
MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda ro,errors=continue
28 27 0:25 / /mnt/big\\040disk rw - xfs /dev/vdb rw
29 27 0:26 / /mnt/na\\134me\xe9 rw - xfs /dev/vdc rw
30 27 0:27 / /var/lib/docker/overlay2/x rw - xfs /dev/vdd rw
31 27 0:28 / /run/lock rw - tmpfs none rw
32 27 0:29 / /snap/core/1 ro - squashfs /dev/loop1 ro
"""


def test_cpu_seconds_and_counts_come_from_stat(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    read = values(kernel.Stat(tmp_path)())
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    assert read["node_cpu_seconds_total", "0", "idle"] == 2000 / ticks_per_s
    assert read["node_cpu_seconds_total", "1", "user"] == 200 / ticks_per_s
    assert read["node_cpu_guest_seconds_total", "0", "nice"] == 5 / ticks_per_s
    assert sum(name[0] == "node_cpu_seconds_total" for name in read) == 16
    assert read["node_intr_total",] == 1234
    assert read["node_context_switches_total",] == 5678
    assert read["node_forks_total",] == 91
    assert read["node_boot_time_seconds",] == 1_790_000_000
    assert read["node_procs_running",] == 2
    assert read["node_procs_blocked",] == 1


def test_cpu_seconds_never_go_back_unless_a_cpu_was_plugged_in_again(tmp_path: Path) -> None:
    stat = kernel.Stat(tmp_path)
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    def idle_and_iowait_s(idle_s: int, iowait_s: int) -> list[float]:
        line = f"cpu0 0 0 0 {idle_s * ticks_per_s} {iowait_s * ticks_per_s} 0 0 0 0 0\n"
        (tmp_path / "stat").write_text(line)
        read = values(stat())
        return [read["node_cpu_seconds_total", "0", mode] for mode in ("idle", "iowait")]

    assert idle_and_iowait_s(1000, 50) == [1000, 50]
    assert idle_and_iowait_s(998, 49) == [1000, 50]
    assert idle_and_iowait_s(1001, 51) == [1001, 51]
    assert idle_and_iowait_s(3, 1) == [3, 1]


def test_memory_is_in_bytes_and_huge_pages_are_counted(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(
        "MemTotal:       1000 kB\nMemAvailable:    10 kB\nActive(anon):   5 kB\n"
        "HugePages_Total:       3\nHugepagesize:       2048 kB\n"
    )
    assert values(memory.read_meminfo(tmp_path)) == {
        ("node_memory_MemTotal_bytes",): 1_024_000,
        ("node_memory_MemAvailable_bytes",): 10_240,
        ("node_memory_Active_anon_bytes",): 5_120,
        ("node_memory_HugePages_Total",): 3,
        ("node_memory_Hugepagesize_bytes",): 2_097_152,
    }


def test_vmstat_is_what_node_exporter_takes_of_it(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text(
        "nr_free_pages 1\npgpgin 2\npswpout 3\npgfault 4\npgmajfault 5\noom_kill 6\npgalloc_dma 7\n"
    )
    assert values(memory.read_vmstat(tmp_path)) == {
        ("node_vmstat_pgpgin",): 2,
        ("node_vmstat_pswpout",): 3,
        ("node_vmstat_pgfault",): 4,
        ("node_vmstat_pgmajfault",): 5,
        ("node_vmstat_oom_kill",): 6,
    }


def test_disks_leave_out_partitions_and_loops(tmp_path: Path) -> None:
    (tmp_path / "diskstats").write_text(
        "   7 0 loop0 1 1 1 1 1 1 1 1 0 1 1\n"
        " 254 1 vda1 1 1 1 1 1 1 1 1 0 1 1\n"
        " 254 0 vda 10 11 12 1300 14 15 16 1700 18 1900 2000\n"
    )
    read = values(disks.read_disks(tmp_path))

    assert {device for _, device in read} == {"vda"}
    assert read["node_disk_reads_completed_total", "vda"] == 10
    assert read["node_disk_read_bytes_total", "vda"] == 12 * 512
    assert read["node_disk_read_time_seconds_total", "vda"] == 1.3
    assert read["node_disk_written_bytes_total", "vda"] == 16 * 512
    assert read["node_disk_io_now", "vda"] == 18
    assert read["node_disk_io_time_weighted_seconds_total", "vda"] == 2
    assert len(read) == 11, "kernels before 4.18 have eleven columns"


def test_network_devices_count_both_ways(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/dev").write_text(
        "Inter-|   Receive  |  Transmit\n face |bytes packets\n"
        "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
        "br-lan:1: 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    )
    read = values(network.read_devices(tmp_path))

    assert read["node_network_receive_bytes_total", "eth0"] == 1
    assert read["node_network_receive_drop_total", "eth0"] == 4
    assert read["node_network_receive_multicast_total", "eth0"] == 8
    assert read["node_network_transmit_bytes_total", "eth0"] == 9
    assert read["node_network_transmit_colls_total", "eth0"] == 14
    assert read["node_network_receive_bytes_total", "br-lan:1"] == 1


def test_network_devices_say_whether_they_are_up(tmp_path: Path) -> None:
    for device, files in {
        "eth0": {"operstate": "up", "carrier": "1", "mtu": "1500", "speed": "1000"},
        "wlan0": {"operstate": "down", "mtu": "1400", "speed": "-1"},
    }.items():
        folder = tmp_path / "class/net" / device
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "class/net/bonding_masters").write_text("")

    assert values(network.read_device_states(tmp_path)) == {
        ("node_network_up", "eth0"): 1,
        ("node_network_carrier", "eth0"): 1,
        ("node_network_mtu_bytes", "eth0"): 1500,
        ("node_network_speed_bytes", "eth0"): 125_000_000,
        ("node_network_up", "wlan0"): 0,
        ("node_network_mtu_bytes", "wlan0"): 1400,
    }


def test_protocols_and_sockets_are_read_without_ipv6_too(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/netstat").write_text(
        "TcpExt: SyncookiesSent ListenDrops DelayedACKs\nTcpExt: 1 2 3\n"
    )
    (tmp_path / "net/snmp").write_text("Tcp: ActiveOpens MaxConn CurrEstab\nTcp: 4 -1 6\n")
    (tmp_path / "net/sockstat").write_text("sockets: used 9\nTCP: inuse 2 mem 3\n")

    assert values(network.read_protocols(tmp_path)) == {
        ("node_netstat_TcpExt_SyncookiesSent",): 1,
        ("node_netstat_TcpExt_ListenDrops",): 2,
        ("node_netstat_Tcp_ActiveOpens",): 4,
        ("node_netstat_Tcp_CurrEstab",): 6,
    }
    assert values(network.read_sockets(tmp_path)) == {
        ("node_sockstat_sockets_used",): 9,
        ("node_sockstat_TCP_inuse",): 2,
        ("node_sockstat_TCP_mem",): 3,
        ("node_sockstat_TCP_mem_bytes",): 3 * os.sysconf("SC_PAGESIZE"),
    }

    (tmp_path / "net/snmp6").write_text("Ip6InOctets\t7\nIp6InReceives\t8\n")
    assert values(network.read_protocols(tmp_path))["node_netstat_Ip6_InOctets",] == 7


def test_pressure_is_in_seconds_and_may_be_missing(tmp_path: Path) -> None:
    assert values(kernel.read_pressure(tmp_path)) == {}
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/io").write_text(
        "some avg10=0.00 avg60=0.24 avg300=0.34 total=5000000\n"
        "full avg10=0.00 avg60=0.17 avg300=0.28 total=2500000\n"
    )
    assert values(kernel.read_pressure(tmp_path)) == {
        ("node_pressure_io_waiting_seconds_total",): 5,
        ("node_pressure_io_stalled_seconds_total",): 2.5,
    }


def test_sensors_are_named_by_their_device(tmp_path: Path) -> None:
    assert values(sensors.read_sensors(tmp_path)) == {}
    device = tmp_path / "devices/platform/coretemp.0"
    device.mkdir(parents=True)
    folder = tmp_path / "class/hwmon/hwmon3"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(device)
    for name, text in {
        "name": "coretemp",
        "temp1_input": "45500",
        "temp1_crit": "100000",
        "temp1_label": "Package id 0",
        "fan2_input": "1200",
        "pwm1": "7",
    }.items():
        (folder / name).write_text(f"{text}\n")

    assert values(sensors.read_sensors(tmp_path)) == {
        ("node_hwmon_chip_names", "platform_coretemp_0", "coretemp"): 1,
        ("node_hwmon_temp_celsius", "platform_coretemp_0", "temp1"): 45.5,
        ("node_hwmon_temp_crit_celsius", "platform_coretemp_0", "temp1"): 100,
        ("node_hwmon_sensor_label", "platform_coretemp_0", "temp1", "Package id 0"): 1,
        ("node_hwmon_fan_rpm", "platform_coretemp_0", "fan2"): 1200,
    }


def test_filesystems_are_those_of_the_host_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mountinfo").write_bytes(MOUNTS.encode("latin-1"))
    asked: list[bytes] = []

    def statvfs(path: bytes) -> os.statvfs_result:
        asked.append(path)
        if path == b"/run/lock":
            raise PermissionError(13, "Permission denied")
        return os.statvfs_result((4096, 512, 1000, 600, 500, 70, 60, 60, 0, 255))

    read = values(Filesystems(tmp_path, statvfs=statvfs)())

    assert asked == [b"/", b"/mnt/big disk", b"/mnt/na\\me\xe9", b"/run/lock"]
    assert read["node_filesystem_size_bytes", "/dev/vda", "/", "ext4", ""] == 512_000
    assert read["node_filesystem_free_bytes", "/dev/vda", "/", "ext4", ""] == 307_200
    assert read["node_filesystem_avail_bytes", "/dev/vda", "/", "ext4", ""] == 256_000
    assert read["node_filesystem_files", "/dev/vda", "/", "ext4", ""] == 70
    assert read["node_filesystem_readonly", "/dev/vda", "/", "ext4", ""] == 1
    assert read["node_filesystem_readonly", "/dev/vdb", "/mnt/big disk", "xfs", ""] == 0
    assert read["node_filesystem_mount_info", "/dev/vda", "254", "0", "/"] == 1
    refused = ("none", "/run/lock", "tmpfs", "Permission denied")
    assert read["node_filesystem_device_error", *refused] == 1
    assert ("node_filesystem_size_bytes", *refused) not in read


def test_a_mount_that_does_not_answer_delays_nothing(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mountinfo").write_bytes(MOUNTS.encode("latin-1"))
    server_is_back, asked = Event(), []

    def statvfs(path: bytes) -> os.statvfs_result:
        asked.append(path)
        if path == b"/mnt/big disk":
            server_is_back.wait()
        return os.statvfs("/")

    filesystems = Filesystems(tmp_path, statvfs=statvfs, deadline_s=0.05)
    stuck = ("/dev/vdb", "/mnt/big disk", "xfs", "mountpoint timeout")
    for _ in range(2):
        read = values(filesystems())
        assert read["node_filesystem_device_error", *stuck] == 1
        assert ("node_filesystem_size_bytes", "/dev/vda", "/", "ext4", "") in read
        assert ("node_filesystem_size_bytes", "none", "/run/lock", "tmpfs", "") in read
    assert asked.count(b"/mnt/big disk") == 1, "requested once until it responds"

    server_is_back.set()
    for thread in filesystems._stuck.values():
        thread.join()
    assert ("node_filesystem_size_bytes", *stuck[:3], "") in values(filesystems())


def test_a_collector_that_fails_is_skipped_and_counted() -> None:
    def half() -> Iterator[Reading]:
        yield Reading(gauge("half_a_picture", ""), 1)
        raise ValueError("unexpected content")

    collection = Collection({"bad": half, "loadavg": kernel.read_loads})
    collection.run()
    read = values(collection.run())

    assert read["infrawatch_agent_collector_errors_total", "bad"] == 2
    assert read["infrawatch_agent_collector_errors_total", "loadavg"] == 0
    assert read["node_scrape_collector_success", "bad"] == 0
    assert read["node_scrape_collector_success", "loadavg"] == 1
    assert ("half_a_picture",) not in read
    assert ("node_load1",) in read
    assert read["up",] == 1


@on_linux
def test_this_machine_is_read_without_a_failure() -> None:
    readings = Collection(host_collectors()).run()
    read = values(readings)

    failed = [name for name, value in read.items() if "success" in name[0] and not value]
    assert not failed
    assert len(read) == len(readings), "no series is repeated"
    families = {reading.family.metric for reading in readings}
    assert sum(family.startswith("node_") for family in families) >= 40
    assert families >= {
        "node_cpu_seconds_total",
        "node_memory_MemAvailable_bytes",
        "node_load1",
        "node_filesystem_avail_bytes",
        "node_network_receive_bytes_total",
        "node_uname_info",
        "node_boot_time_seconds",
        "node_time_seconds",
    }


def test_a_system_without_proc_is_read_through_psutil() -> None:
    readings = Collection(host_collectors(system="darwin")).run()
    read = values(readings)

    assert all(value for name, value in read.items() if name[0] == "node_scrape_collector_success")
    assert read["node_memory_total_bytes",] > 0
    assert read["node_cpu_seconds_total", "0", "user"] > 0
    assert read["node_boot_time_seconds",] == psutil.boot_time()
    assert len({reading.family.metric for reading in readings}) >= 25


def values(readings: Iterator[Reading] | list[Reading]) -> dict[tuple[str, ...], float]:
    read = list(readings)
    for reading in read:
        assert len(reading.labels) == len(reading.family.labels)
    return {(reading.family.metric, *reading.labels): reading.value for reading in read}

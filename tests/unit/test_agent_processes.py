"""Which programs use the CPUs and the memory, read from a small /proc made of files."""

import os
import shutil
from pathlib import Path

from infrawatch.agent.collectors.processes import Processes

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
KTHREADD = 2

CPU = "namedprocess_namegroup_cpu_seconds_total"
MEMORY = "namedprocess_namegroup_memory_bytes"
NUMBER = "namedprocess_namegroup_num_procs"


def test_processes_of_one_name_are_reported_together(tmp_path: Path) -> None:
    write(tmp_path, 10, "postgres", pages=(500, 300))
    write(tmp_path, 11, "postgres", pages=(400, 350), threads=3)
    write(tmp_path, 12, "cat) (S 1", pages=(10, 0))
    read = values(Processes(tmp_path))

    assert read[NUMBER, "postgres"] == 2
    assert read[MEMORY, "postgres", "private"] == (200 + 50) * PAGE_BYTES
    assert read[MEMORY, "cat) (S 1", "private"] == 10 * PAGE_BYTES
    assert read["node_processes_pids",] == 3
    assert read["node_processes_threads",] == 5
    assert read["node_processes_state", "S"] == 3


def test_seconds_are_those_since_the_agent_started_and_survive_a_process(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    write(tmp_path, 10, "worker", user_s=1_000)
    write(tmp_path, 11, "worker", user_s=50, system_s=7)
    assert values(processes)[CPU, "worker", "user"] == 0

    write(tmp_path, 10, "worker", user_s=1_002)
    write(tmp_path, 12, "worker", user_s=3, system_s=1)
    read = values(processes)
    assert (read[CPU, "worker", "user"], read[CPU, "worker", "system"]) == (5, 1)

    shutil.rmtree(tmp_path / "11")
    write(tmp_path, 12, "worker", user_s=4, start=99)
    assert values(processes)[CPU, "worker", "user"] == 9, "the pid was reused by another process"


def test_threads_of_the_kernel_are_one_program(tmp_path: Path) -> None:
    processes = Processes(tmp_path)

    def threads_used(seconds: int) -> dict[tuple[str, ...], float]:
        write(tmp_path, KTHREADD, "kthreadd", parent=0, pages=(0, 0))
        for pid, name in ((30, "kworker/0:1-events"), (31, "ksoftirqd/1")):
            write(tmp_path, pid, name, parent=KTHREADD, pages=(0, 0), system_s=seconds)
        return values(processes)

    threads_used(0)
    read = threads_used(1)
    assert read[CPU, "kernel", "system"] == 2
    assert read[NUMBER, "kernel"] == 3


def test_only_the_programs_that_use_most_are_reported(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    told: set[str] = set()
    for turn in range(6):
        for number in range(60):
            is_busy = number // 10 == turn
            write(tmp_path, 100 + number, f"program-{number}", user_s=turn + is_busy)
        write(tmp_path, 200, "large", pages=(90_000, 0))
        told = {labels[1] for labels in values(processes) if labels[0] == NUMBER}
        assert len(told) <= 25
        assert "large" in told
    assert sum(name in told for name in (f"program-{number}" for number in range(50, 60))) >= 8


def test_a_process_that_ends_meanwhile_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 10, "here")
    (tmp_path / "11").mkdir()
    (tmp_path / "sys").mkdir()
    read = values(Processes(tmp_path))
    assert read["node_processes_pids",] == 1


def write(
    proc: Path,
    pid: int,
    name: str,
    *,
    parent: int = 1,
    pages: tuple[int, int] = (20, 5),
    **fields: int,
) -> None:
    """The line of a process; `pages` are those it has in memory, and those of them it shares."""
    words = ["0"] * 50
    words[0], words[1] = "S", str(parent)
    words[11] = str(fields.get("user_s", 0) * TICKS_PER_S)
    words[12] = str(fields.get("system_s", 0) * TICKS_PER_S)
    words[17] = str(fields.get("threads", 1))
    words[19] = str(fields.get("start", 1))
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(words)}\n")
    (folder / "statm").write_text(f"1000 {pages[0]} {pages[1]} 1 0 1 0\n")


def values(processes: Processes) -> dict[tuple[str, ...], float]:
    return {(one.family.metric, *one.labels): one.value for one in processes()}

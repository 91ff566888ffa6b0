"""Processes on Linux: how many there are, and which programs use the CPUs and the memory."""

import mmap
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from infrawatch.agent.readings import Reading, counter, gauge

_MAX_PROGRAMS = 25
"""The most programs reported, however many there are: each is four series."""

_RANKED = 8
"""How many of the current largest users of CPU, and of memory, are always among them."""

_KERNEL = "kernel"
"""One name for all kernel threads, each of which has a name of its own."""
_KTHREADD = 2

_PIDS = gauge("node_processes_pids", "Number of PIDs")
_THREADS = gauge("node_processes_threads", "Allocated threads in system")
_STATES = gauge("node_processes_state", "Number of processes in each state.", "state")
_CPU = counter(
    "namedprocess_namegroup_cpu_seconds_total",
    "CPU seconds of the processes of this name since the agent started.",
    "groupname",
    "mode",
)
_MEMORY = gauge(
    "namedprocess_namegroup_memory_bytes",
    "Memory of the processes of this name alone; what they share with others is not in it.",
    "groupname",
    "memtype",
)
_NUMBER = gauge("namedprocess_namegroup_num_procs", "Processes of this name.", "groupname")


class _Process(NamedTuple):
    """A process as in /proc/[pid] (proc_pid_stat(5)); `start` distinguishes uses of a pid."""

    name: str
    state: str
    start: int
    user_ticks: int
    system_ticks: int
    threads: int
    private_pages: int


@dataclass(slots=True)
class _Program:
    """All processes of a name; ticks are those used since the agent started."""

    user_ticks: int = 0
    system_ticks: int = 0
    used_now_ticks: int = 0
    private_pages: int = 0
    processes: int = 0


@dataclass(slots=True)
class _Pass:
    seen: dict[int, _Process] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    threads: int = 0


class Processes:
    """Counts processes by the name of their program, as process-exporter does.

    Reports only programs that recently ranked among the largest users, and no command lines,
    because these may hold passwords.
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._before: dict[int, _Process] | None = None
        self._programs: defaultdict[str, _Program] = defaultdict(_Program)
        self._reported: dict[str, None] = {}
        """The names reported last, the most recently ranked at the end."""

    def __call__(self) -> Iterator[Reading]:
        now = self._scan()
        self._count(now)
        yield Reading(_PIDS, len(now.seen))
        yield Reading(_THREADS, now.threads)
        for state, number in now.states.items():
            yield Reading(_STATES, number, (state,))
        for name in self._rank():
            program = self._programs[name]
            yield Reading(_CPU, program.user_ticks / self._ticks_per_s, (name, "user"))
            yield Reading(_CPU, program.system_ticks / self._ticks_per_s, (name, "system"))
            yield Reading(_MEMORY, program.private_pages * mmap.PAGESIZE, (name, "private"))
            yield Reading(_NUMBER, program.processes, (name,))

    def _scan(self) -> _Pass:
        now = _Pass()
        for entry in os.scandir(self._proc):
            if not entry.name.isdecimal():
                continue
            try:
                process = _read(int(entry.name), f"{self._proc}/{entry.name}")
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
            now.seen[int(entry.name)] = process
            now.states[process.state] += 1
            now.threads += process.threads
        return now

    def _count(self, now: _Pass) -> None:
        for program in self._programs.values():
            program.used_now_ticks = program.private_pages = program.processes = 0
        for pid, process in now.seen.items():
            program = self._programs[process.name]
            program.processes += 1
            program.private_pages += process.private_pages
            user_ticks, system_ticks = self._used(pid, process)
            program.user_ticks += user_ticks
            program.system_ticks += system_ticks
            program.used_now_ticks += user_ticks + system_ticks
        self._before = now.seen
        for name in [name for name, program in self._programs.items() if not program.processes]:
            del self._programs[name]

    def _used(self, pid: int, process: _Process) -> tuple[int, int]:
        """Ticks of user and system time since the previous pass; all ticks of a new process."""
        if self._before is None:
            return 0, 0
        before = self._before.get(pid)
        if before is None or before.start != process.start:
            return process.user_ticks, process.system_ticks
        return (
            max(process.user_ticks - before.user_ticks, 0),
            max(process.system_ticks - before.system_ticks, 0),
        )

    def _rank(self) -> list[str]:
        """The names to report; a ranked one stays until others have taken its place."""
        by_cpu = sorted(self._programs, key=lambda name: -self._programs[name].used_now_ticks)
        by_memory = sorted(self._programs, key=lambda name: -self._programs[name].private_pages)
        ranked = [name for name in by_cpu[:_RANKED] if self._programs[name].used_now_ticks]
        ranked += [name for name in by_memory[:_RANKED] if self._programs[name].private_pages]
        others = [name for name in self._reported if name in self._programs and name not in ranked]
        self._reported = dict.fromkeys([*others, *ranked][-_MAX_PROGRAMS:])
        return list(self._reported)


def _read(pid: int, directory: str) -> _Process:
    """Read a process; its name is in parentheses, and may contain parentheses and blanks."""
    with open(f"{directory}/stat", "rb", buffering=0) as stat:  # noqa: PTH123  # a third of a Path's time
        head, _, rest = stat.read().rpartition(b")")
    with open(f"{directory}/statm", "rb", buffering=0) as statm:  # noqa: PTH123
        _, resident, shared, *_ = statm.read().split()
    words = rest.split()
    is_kernel = _KTHREADD in (pid, int(words[1]))
    return _Process(
        name=_KERNEL if is_kernel else head.partition(b"(")[2].decode(errors="replace"),
        state=words[0].decode(),
        start=int(words[19]),
        user_ticks=int(words[11]),
        system_ticks=int(words[12]),
        threads=int(words[17]),
        private_pages=int(resident) - int(shared),
    )

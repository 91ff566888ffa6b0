"""File systems on Linux: the mounts of process 1, and how full they are."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import NamedTuple

from infrawatch.agent.readings import Family, Reading, gauge

_EXCLUDED_MOUNTS = re.compile(
    r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)
_EXCLUDED_TYPES = re.compile(
    "autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660"
    "|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs"
    "|sysfs|tracefs"
)
"""Both are node_exporter's defaults (`--collector.filesystem.{mount-points,fs-types}-exclude`)."""

_READ_ONLY = frozenset({b"ro", b"emergency_ro"})
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_DEADLINE_S = 2.0  # local disks answer within microseconds, an unreachable server never
_TIMEOUT = TimeoutError(None, "mountpoint timeout")

_LABELS = ("device", "mountpoint", "fstype", "device_error")


def _filesystem(name: str, description: str) -> Family:
    return gauge(f"node_filesystem_{name}", description, *_LABELS)


_DEVICE_ERROR = _filesystem(
    "device_error", "Whether an error occurred while getting statistics for the given device."
)
_READONLY = _filesystem("readonly", "Filesystem read-only status.")
_SIZE = _filesystem("size_bytes", "Filesystem size in bytes.")
_FREE = _filesystem("free_bytes", "Filesystem free space in bytes.")
_AVAIL = _filesystem("avail_bytes", "Filesystem space available to non-root users in bytes.")
_FILES = _filesystem("files", "Filesystem total file nodes.")
_FILES_FREE = _filesystem("files_free", "Filesystem total free file nodes.")
_MOUNT_INFO = gauge(
    "node_filesystem_mount_info",
    "Filesystem mount information.",
    "device",
    "major",
    "minor",
    "mountpoint",
)


class Mount(NamedTuple):
    """A line of mountinfo; `path` is the kernel's name for it, byte for byte."""

    device: str
    path: bytes
    fstype: str
    major: str
    minor: str
    is_readonly: bool


Statvfs = Callable[[bytes], os.statvfs_result]
Answer = os.statvfs_result | OSError


class Filesystems:
    """Reads how full every mount is, with a short deadline for each.

    A mount that does not answer (an unreachable NFS server) is reported as
    `device_error="mountpoint timeout"`, as node_exporter does, and is not asked again until
    the pending call has returned: its thread cannot be interrupted.
    """

    def __init__(
        self, proc: Path, *, statvfs: Statvfs = os.statvfs, deadline_s: float = _DEADLINE_S
    ) -> None:
        self._proc = proc
        self._statvfs = statvfs
        self._deadline_s = deadline_s
        self._stuck: dict[bytes, Thread] = {}

    def __call__(self) -> Iterator[Reading]:
        mounts = list(_read_mounts(self._proc))
        answers = self._ask(dict.fromkeys(mount.path for mount in mounts))
        for mount in mounts:
            yield from _to_readings(mount, answers[mount.path])

    def _ask(self, paths: Iterable[bytes]) -> Mapping[bytes, Answer]:
        self._stuck = {path: thread for path, thread in self._stuck.items() if thread.is_alive()}
        answers: dict[bytes, Answer] = dict.fromkeys(self._stuck, _TIMEOUT)
        while waiting := [path for path in paths if path not in answers]:
            answered: SimpleQueue[Answer] = SimpleQueue()
            abandoned = Event()
            thread = Thread(target=self._walk, args=(waiting, answered, abandoned), daemon=True)
            thread.start()
            for path in waiting:
                try:
                    answers[path] = answered.get(timeout=self._deadline_s)
                except Empty:
                    abandoned.set()
                    self._stuck[path] = thread
                    answers[path] = _TIMEOUT
                    break
        return answers

    def _walk(self, paths: Iterable[bytes], answered: SimpleQueue[Answer], stop: Event) -> None:
        for path in paths:
            try:
                answered.put(self._statvfs(path))
            except OSError as error:
                answered.put(error)
            if stop.is_set():
                return


def _read_mounts(proc: Path) -> Iterator[Mount]:
    try:
        text = (proc / "1/mountinfo").read_bytes()
    except (FileNotFoundError, PermissionError):  # /proc is mounted with hidepid
        text = (proc / "self/mountinfo").read_bytes()
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        _id, _parent, version, _root, path, options, *_ = before.split(b" ")
        fstype, device, super_options = after.split(b" ", 2)
        major, _, minor = version.decode().partition(":")
        mount = Mount(
            device=os.fsdecode(_unescape(device)),
            path=_unescape(path),
            fstype=os.fsdecode(fstype),
            major=major,
            minor=minor,
            is_readonly=not _READ_ONLY.isdisjoint((options + b"," + super_options).split(b",")),
        )
        if not _is_excluded(mount):
            yield mount


def _is_excluded(mount: Mount) -> bool:
    return bool(
        _EXCLUDED_TYPES.fullmatch(mount.fstype) or _EXCLUDED_MOUNTS.match(os.fsdecode(mount.path))
    )


def _unescape(text: bytes) -> bytes:
    """Undo the kernel's octal escapes of blanks, newlines and backslashes (proc(5))."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), text)


def _to_readings(mount: Mount, answer: Answer) -> Iterator[Reading]:
    path = os.fsdecode(mount.path)
    failure = (answer.strerror or "unknown") if isinstance(answer, OSError) else ""
    labels = (mount.device, path, mount.fstype, failure)
    yield Reading(_DEVICE_ERROR, bool(failure), labels)
    yield Reading(_READONLY, mount.is_readonly, labels)
    if isinstance(answer, OSError):
        return
    yield Reading(_SIZE, answer.f_blocks * answer.f_frsize, labels)
    yield Reading(_FREE, answer.f_bfree * answer.f_frsize, labels)
    yield Reading(_AVAIL, answer.f_bavail * answer.f_frsize, labels)
    yield Reading(_FILES, answer.f_files, labels)
    yield Reading(_FILES_FREE, answer.f_ffree, labels)
    yield Reading(_MOUNT_INFO, 1, (mount.device, mount.major, mount.minor, path))

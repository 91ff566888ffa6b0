"""The data directory: its location, its account, and a lock that admits only one process."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infrawatch.embedded.account import Account
from infrawatch.errors import CannotStart

REFUGE = Path("/var/lib/infrawatch")


class HomeInUse(CannotStart):
    """Another process holds the lock."""


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one embedded server. Only `cluster` and `logs` belong to `account`."""

    path: Path
    account: Account | None
    """The account the server runs as; None for that of this process."""
    requested: Path
    """The data directory the user named; it differs from `path` if `account` cannot reach it."""

    @classmethod
    def resolve(cls, data_dir: Path) -> Self:
        """Find the home that belongs to a data directory, the same one at every call.

        As root the server runs as an unprivileged user. If that user cannot pass the directories
        above `data_dir` (such as root's home), their permissions stay as they are and the home is
        under /var/lib/infrawatch instead.

        Raises:
            CannotStart: a file is in its place.
        """
        requested = data_dir.expanduser().resolve()
        if os.geteuid() != 0:
            return cls(requested, None, requested)
        cluster = requested / "postgres"
        if cluster.is_dir() and cluster.stat().st_uid != 0:
            return cls(requested, Account.owning(cluster), requested)
        account = Account.unprivileged()
        above = next(folder for folder in (requested, *requested.parents) if folder.exists())
        if not above.is_dir():
            raise CannotStart(
                f"The data directory {requested} cannot be made: {above} is a file. "
                "Choose another with --data-dir."
            )
        if account.may_reach(above):
            return cls(requested, account, requested)
        name = hashlib.sha256(os.fsencode(requested)).hexdigest()[:12]
        return cls(REFUGE / name, account, requested)

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        return self.path / "postgres-log"

    @contextmanager
    def locked(self) -> Generator[None]:
        """Create the directory if necessary and lock it; the kernel unlocks it if the process dies.

        Raises:
            HomeInUse: another process holds the lock.
            CannotStart: it cannot be created or written, or its account may not enter it.
        """
        try:
            self._create()
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self.unusable(error) from error
        try:
            self._hold(lock)
            self._check_account()
            yield
        finally:
            os.close(lock)

    def unusable(self, error: OSError) -> CannotStart:
        """The error that says why the directory cannot be used, and what to do."""
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "Make room" if is_full else "Run as the user it belongs to"
        return CannotStart(
            f"The data directory {self.path} cannot be used: {error.strerror}. "
            f"{hint}, or choose another with --data-dir."
        )

    def give(self, directory: Path) -> None:
        """Create a directory to which only the account the server runs as has access."""
        directory.mkdir(mode=0o700, exist_ok=True)
        if self.account is not None:
            os.chown(directory, self.account.uid, self.account.gid)

    def _create(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        for directory in reversed(missing):
            directory.mkdir(exist_ok=True)
            # Whatever the umask is, the account must be able to pass.
            directory.chmod(0o700 if self.account is None else 0o711)

    def _check_account(self) -> None:
        if self.account is not None and not self.account.may_reach(self.path):
            raise CannotStart(
                f"The user {self.account.name}, to whom {self.cluster} belongs, may not enter "
                f"{self.path}: `chmod a+x` it and the directories above it, or choose another "
                "with --data-dir."
            )

    def _hold(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode("ascii", errors="replace").strip()
            raise HomeInUse(
                f"The data directory {self.path} is in use by another infrawatch "
                f"(process {holder or 'unknown'}). Stop it, or choose another with --data-dir."
            ) from None
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode("ascii"), 0)

"""The account PostgreSQL runs as when InfraWatch is root, since it refuses to run as root."""

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple, Self

from infrawatch.errors import CannotStart

UNPRIVILEGED = "nobody"


class Account(NamedTuple):
    name: str
    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Self:
        """The account that Unix systems have for programs that must not own anything.

        Raises:
            CannotStart: this machine has no such account.
        """
        try:
            entry = pwd.getpwnam(UNPRIVILEGED)
        except KeyError:
            raise CannotStart(
                f"PostgreSQL refuses to run as root, and this machine has no user {UNPRIVILEGED!r} "
                "to run it as; start infrawatch as an ordinary user."
            ) from None
        return cls(UNPRIVILEGED, entry.pw_uid, entry.pw_gid)

    @classmethod
    def owning(cls, path: Path) -> Self:
        status = path.stat()
        try:
            name = pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            name = str(status.st_uid)
        return cls(name, status.st_uid, status.st_gid)

    def may_reach(self, path: Path) -> bool:
        """Whether this account may pass every directory above `path`, and enter or run `path`.

        Judged by mode bits, so an access control list that allows more is ignored.
        """
        return all(self._may_pass(folder.stat()) for folder in (path, *path.parents))

    def _may_pass(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

"""Executes a program that stops when its parent dies, optionally as another account.

    python -I -S launcher.py PARENT SIGNAL UID:GID|- PROGRAM [ARGUMENT…]

A separate program, because Python between fork and exec (`preexec_fn`) can deadlock in a process
that has threads. It uses only the standard library, and PROGRAM replaces it after 15 ms.
"""

import ctypes
import os
import sys

# From linux/prctl.h. Other systems do not have it; there the next start stops an orphan.
PR_SET_PDEATHSIG = 1


def launch(parent: int, death_signal: int, account: str, command: list[str]) -> None:
    """Replace this process by `command`; `death_signal` reaches it when `parent` dies."""
    if account != "-":
        uid, gid = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":  # after the change of user, which clears the setting
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, death_signal):
            raise OSError(ctypes.get_errno(), "the parent-death signal cannot be set")
    if os.getppid() != parent:
        sys.exit(f"process {parent}, which asked for {command[0]}, is gone")
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    try:
        launch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[4]} as {sys.argv[3]}: {error}")

"""`infrawatch serve` that is killed after a commit, before any response.

It lives for DOOMED_COMMITS commits. A program of its own, because it is there to be killed.
"""

import os
from signal import SIGKILL
from typing import Any
from unittest.mock import patch

from infrawatch import app
from infrawatch.__main__ import main
from infrawatch.ingest.writer import GroupWriter, OnCommitted
from infrawatch.store.journal import Entry

COMMITS = int(os.environ["DOOMED_COMMITS"])


class _Doomed(GroupWriter):
    """Kills the process between a commit and its responses."""

    def __init__(self, *args: Any, on_committed: OnCommitted, **options: Any) -> None:
        def die_in_time(entry: Entry) -> None:
            if entry.seq == COMMITS:
                os.kill(os.getpid(), SIGKILL)
            on_committed(entry)

        super().__init__(*args, on_committed=die_in_time, **options)


if __name__ == "__main__":
    with patch.object(app, "GroupWriter", _Doomed):
        main()

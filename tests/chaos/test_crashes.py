"""The same as the test of this name among the others, for as long as it takes: `make chaos`."""

import secrets
from datetime import timedelta
from pathlib import Path

import pytest
from crashing import crash_again_and_again

from infrawatch.embedded import processes


@pytest.mark.timeout(3_000)
async def test_what_was_acknowledged_is_there_after_each_of_a_hundred_crashes(
    temporary_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(processes, pause, timedelta(milliseconds=5))
    await crash_again_and_again(temporary_root / "crashes", rounds=100, seed=secrets.randbits(32))

"""Acknowledged means committed, whatever is killed and when."""

from pathlib import Path

import pytest
from crashing import crash_again_and_again

from infrawatch.embedded import processes


async def test_what_was_acknowledged_is_there_after_each_of_five_crashes(
    temporary_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", processes.FIRST_PAUSE / 100)
    await crash_again_and_again(temporary_root / "crashes", rounds=5, seed=4)

"""Acknowledged means committed, whatever is killed and when."""

from datetime import timedelta
from pathlib import Path

import pytest
from crashing import crash_again_and_again

from infrawatch.embedded import processes


async def test_acknowledged_samples_survive_five_crashes(
    temporary_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("FIRST_PAUSE", "MAX_PAUSE"):
        monkeypatch.setattr(processes, pause, timedelta(milliseconds=5))
    await crash_again_and_again(temporary_root / "crashes", rounds=5, seed=4)

"""The same as the test of this name among the others, for as long as it takes: `make chaos`."""

import secrets
from datetime import timedelta
from pathlib import Path

import pytest
from chaos.catalogue import CRASHES
from chaos.world import Outcome
from crashing import crash_again_and_again

from infrawatch.embedded import processes

ROUNDS = 100


@pytest.mark.timeout(3_000)
async def test_acknowledged_samples_survive_a_hundred_crashes(
    temporary_root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, Outcome]
) -> None:
    for pause in ("FIRST_PAUSE", "MAX_PAUSE"):
        monkeypatch.setattr(processes, pause, timedelta(milliseconds=5))
    seed = secrets.randbits(32)
    samples = await crash_again_and_again(temporary_root / "crashes", rounds=ROUNDS, seed=seed)
    # It has held all of them against the store, and let no answer pass but 200 and 503.
    outcomes[CRASHES] = Outcome(ROUNDS, samples, 0)

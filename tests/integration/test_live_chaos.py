"""The storm of tests/chaos, for a few seconds."""

from pathlib import Path

import pytest
from chaos.live_chaos import chaos


@pytest.mark.timeout(480)
async def test_viewers_end_up_with_all_commits_whatever_is_killed(
    database_url: str, temporary_root: Path
) -> None:
    outcome = await chaos(database_url, temporary_root / "chaos", seconds=10, seed=7)

    assert outcome.samples > 0
    assert outcome.done["kill a server"] > 0
    assert (outcome.missing, outcome.invented, outcome.wrong) == (0, 0, [])

"""The whole catalogue: `make chaos`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chaos.catalogue import SCENARIOS
from chaos.world import Outcome, Scenario, World, world_in


@pytest.fixture
async def world(temporary_root: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world_in(temporary_root / f"world-{id(request)}") as world:
        yield world


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
async def test_nothing_acknowledged_is_missing_or_doubled_after(
    scenario: Scenario, world: World, outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes[scenario.name] = await scenario.run(world, scenario.rounds)
    outcome.check()

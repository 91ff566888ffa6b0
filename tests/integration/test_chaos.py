"""The scenarios of `make chaos`, a few rounds each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from chaos.catalogue import BRIEF
from chaos.world import Scenario, World, world_in

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")  # a scenario finds nothing of the one before
async def world(temporary_root: Path) -> AsyncIterator[World]:
    async with world_in(temporary_root / "world") as world:
        yield world


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", BRIEF, ids=lambda one: one.name)
async def test_nothing_acknowledged_is_missing_or_doubled_after(
    scenario: Scenario, world: World
) -> None:
    outcome = await scenario.run(world, scenario.rounds)
    outcome.check()

"""What a scenario is given: a PostgreSQL to be unkind to, with a road to it that may break."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import httpx
from chaos.ledger import Found
from chaos.load import Load
from database_proxy import DatabaseProxy, proxied

from infrawatch.embedded import processes
from infrawatch.embedded.postgres import Postgres, postgres_running
from infrawatch.store.database import Database
from infrawatch.store.migrations import upgrade

AT_ONCE = timedelta(milliseconds=5)


@dataclass(frozen=True, slots=True)
class World:
    """`database` is for those who look; servers go through `proxy`, unless they need not."""

    directory: Path
    postgres: Postgres
    database: Database
    proxy: DatabaseProxy

    @property
    def url(self) -> str:
        return self.postgres.endpoint.url()


@dataclass(slots=True)
class Outcome:
    """What came of a scenario."""

    rounds: int
    acknowledged: int
    errors_500: int
    found: Found = field(default_factory=Found)
    recoveries_s: list[float] = field(default_factory=list)

    @classmethod
    async def of(cls, load: Load, world: World, url: str, *, rounds: int) -> "Outcome":
        """Audit what the agents sent; they have to have ended."""
        statuses = load.ledger.statuses
        unforeseen = {
            status: times
            for status, times in statuses.items()
            if status not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE)
        }
        assert unforeseen.keys() <= {httpx.codes.INTERNAL_SERVER_ERROR}, unforeseen
        return cls(
            rounds,
            acknowledged=len(load.ledger.acknowledged),
            errors_500=sum(unforeseen.values()),
            found=await load.ledger.audit(world.database, url),
            recoveries_s=load.recoveries_s,
        )

    def check(self) -> None:
        """Hold it against what is promised."""
        assert self.acknowledged
        assert self.found == Found()
        assert self.errors_500 == 0


Run = Callable[[World, int], Awaitable[Outcome]]


class Scenario(NamedTuple):
    """A fault, and how often it befalls the world."""

    name: str
    run: Run
    rounds: int


@asynccontextmanager
async def world_in(directory: Path) -> AsyncGenerator[World, None]:
    """A PostgreSQL in this directory, which whoever supervises it starts again at once."""
    with (
        patch.object(processes, "FIRST_PAUSE", AT_ONCE),
        patch.object(processes, "MAX_PAUSE", AT_ONCE),
    ):
        async with postgres_running(directory) as postgres:
            url = postgres.endpoint.url()
            await upgrade(url)
            async with proxied(url) as proxy, Database.open(url) as database:
                yield World(directory, postgres, database, proxy)


def to_table(outcomes: dict[str, Outcome]) -> str:
    """Markdown, as docs/guarantees.md shows it."""
    head = ("scenario", "rounds", "acknowledged", "missing", "doubled", "500s", "recovery s")
    rows = [head, ("---", *["--:"] * 6), *(_to_row(*pair) for pair in outcomes.items())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _to_row(name: str, outcome: Outcome) -> tuple[str, ...]:
    found, recoveries = outcome.found, outcome.recoveries_s
    recovery = f"{median(recoveries):.1f}, at most {max(recoveries):.1f}" if recoveries else "-"
    numbers = (outcome.acknowledged, found.missing, found.doubled, outcome.errors_500)
    return (name, str(outcome.rounds), *(f"{number:,}" for number in numbers), recovery)

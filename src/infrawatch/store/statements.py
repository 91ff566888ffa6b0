"""Statements without SQLAlchemy, whose overhead exceeds PostgreSQL's time for short ones."""

import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, NamedTuple, Self

from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.connections import to_driver_in_transaction

_NAME = re.compile(r"(?<![:\w]):([a-z]\w*)")


class Statement(NamedTuple):
    """SQL with numbered parameters, and the parameters' names in that order."""

    sql: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, sql: str) -> Self:
        """Parse SQL with parameters written `:name`, as in SQLAlchemy."""
        names = tuple(dict.fromkeys(_NAME.findall(sql)))
        return cls(_NAME.sub(lambda name: f"${names.index(name[1]) + 1}", sql), names)

    async def fetch(
        self, connection: AsyncConnection, parameters: Mapping[str, object]
    ) -> list[Any]:
        """Return all rows, in the open transaction."""
        rows: list[Any] = await to_driver_in_transaction(connection).fetch(
            self.sql, *self._all(parameters)
        )
        return rows

    async def stream(
        self, connection: AsyncConnection, parameters: Mapping[str, object], *, at_once: int
    ) -> AsyncGenerator[Any, None]:
        """Yield all rows, prefetching `at_once` at a time; takes twice as many round trips."""
        driver = to_driver_in_transaction(connection)
        async for row in driver.cursor(self.sql, *self._all(parameters), prefetch=at_once):
            yield row

    def _all(self, parameters: Mapping[str, object]) -> Iterator[object]:
        return map(parameters.__getitem__, self.names)

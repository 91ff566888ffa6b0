"""Statements past SQLAlchemy, which takes longer to ask a short one than PostgreSQL to answer."""

import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, NamedTuple, Self

from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.connections import Connection, to_driver

_NAME = re.compile(r"(?<![:\w]):([a-z]\w*)")


class Statement(NamedTuple):
    """SQL, and the names of its parameters in the order in which they are numbered there."""

    sql: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, sql: str) -> Self:
        """SQL with `:name` for each parameter, as SQLAlchemy has it."""
        names = tuple(dict.fromkeys(_NAME.findall(sql)))
        return cls(_NAME.sub(lambda name: f"${names.index(name[1]) + 1}", sql), names)

    async def fetch(
        self, connection: AsyncConnection, parameters: Mapping[str, object]
    ) -> list[Any]:
        """All rows, in the transaction there is."""
        rows: list[Any] = await _in_transaction(connection).fetch(self.sql, *self._all(parameters))
        return rows

    async def stream(
        self, connection: AsyncConnection, parameters: Mapping[str, object], *, at_once: int
    ) -> AsyncGenerator[Any, None]:
        """All rows, never holding more than `at_once`; asks PostgreSQL twice as often."""
        driver = _in_transaction(connection)
        async for row in driver.cursor(self.sql, *self._all(parameters), prefetch=at_once):
            yield row

    def _all(self, parameters: Mapping[str, object]) -> Iterator[object]:
        return map(parameters.__getitem__, self.names)


def _in_transaction(connection: AsyncConnection) -> Connection:
    driver = to_driver(connection)
    # SQLAlchemy begins one only when it is asked itself.
    assert driver.is_in_transaction()
    return driver

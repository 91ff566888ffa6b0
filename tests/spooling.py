"""Spools that tests open are closed, whatever becomes of the tests: Python 3.13 insists on it."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def closed_spools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For every test of a module that imports it."""
    connect = sqlite3.connect
    connections: list[sqlite3.Connection] = []

    def noting(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connections.append(connect(*args, **kwargs))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", noting)
    yield
    for connection in connections:
        connection.close()

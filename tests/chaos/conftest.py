"""The table of what came of it, at the end."""

import pytest
from chaos.world import Outcome, to_table

_OUTCOMES = pytest.StashKey[dict[str, Outcome]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_OUTCOMES] = {}


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> dict[str, Outcome]:
    """What came of each scenario, by name; printed when all is over."""
    return pytestconfig.stash[_OUTCOMES]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if outcomes := config.stash[_OUTCOMES]:
        terminalreporter.write_line(to_table(outcomes))

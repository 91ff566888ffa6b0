"""What is logged says where it went wrong, and nothing of what was sent."""

import subprocess
import sys

import pytest

FAILING = """
import structlog
from infrawatch.telemetry import configure_logging

def fail(secret):
    raise ValueError("an error of ours")

configure_logging("{log_format}", "info")
log = structlog.get_logger()
log.debug("too_quiet")
try:
    fail("pass" + "word")
except ValueError:
    log.critical("it_failed", task="test", exc_info=True)
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_values_of_variables(log_format: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FAILING.format(log_format=log_format)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "it_failed" in ran.stderr
    assert "ValueError: an error of ours" in ran.stderr
    assert "password" not in ran.stderr
    assert "too_quiet" not in ran.stderr
    assert ran.stdout == ""


FORGETTING = """
import asyncio
from asyncpg.exceptions import ConnectionDoesNotExistError
from infrawatch.telemetry import configure_logging

async def forget(error):
    asyncio.get_running_loop().create_future().set_exception(error)

configure_logging("console", "info")
asyncio.run(forget(ConnectionDoesNotExistError("of asyncpg")))
asyncio.run(forget(ValueError("of ours")))
"""


def test_a_future_that_asyncpg_forgets_is_not_logged_but_ours_are() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORGETTING], capture_output=True, text=True, check=True
    )

    assert "of ours" in ran.stderr
    assert "of asyncpg" not in ran.stderr

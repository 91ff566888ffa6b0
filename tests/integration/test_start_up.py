"""A server imports what it needs and no more: every library takes its share of each start."""

import subprocess
import sys

from commands import environment

NEEDED_BY_SOME = {
    "alembic",  # to migrate
    "cryptography",  # for an identity provider
    "httpx",
    "jwt",
    "redis",  # with INFRAWATCH_REDIS_URL
}

SERVE = """
import asyncio, sys
import infrawatch.cli.serve
from infrawatch.app import create_app
from infrawatch.settings import Settings

async def serve():
    app = create_app(Settings(_env_file=None))
    async with app.router.lifespan_context(app):
        print(*sys.modules)

asyncio.run(serve())
"""


def test_a_server_imports_no_library_that_only_others_need(database_url: str) -> None:
    printed = subprocess.check_output(
        [sys.executable, "-c", SERVE], env=environment(database_url), text=True
    )

    imported = set(printed.split())
    assert "sqlalchemy" in imported
    assert not imported & NEEDED_BY_SOME


def test_commands_import_the_app_and_migrations_only_to_run_them() -> None:
    commands = "import sys, infrawatch.cli.openapi, infrawatch.cli.serve, infrawatch.cli.up"

    printed = subprocess.check_output(
        [sys.executable, "-c", f"{commands}; print(*sys.modules)"], text=True
    )

    imported = set(printed.split())
    assert "infrawatch.cli.serve" in imported
    assert not imported & {"infrawatch.app", "alembic", "redis", "numpy"}

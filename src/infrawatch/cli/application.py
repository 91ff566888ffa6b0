"""The app, for the commands that serve or describe it."""

from fastapi import FastAPI

from infrawatch.cli.commands import without_collector
from infrawatch.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Import the app, and create one.

    It is imported only now, as it takes most of the time and memory of a start: `--help` and the
    parent of worker processes do without it.
    """
    with without_collector():
        from infrawatch.app import create_app  # noqa: PLC0415

    return create_app(settings)

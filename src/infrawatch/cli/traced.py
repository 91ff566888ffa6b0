"""Tracing, where it is asked for; its libraries are an extra, and imported only then."""

from importlib import import_module

from fastapi import FastAPI

from infrawatch.errors import CannotStart
from infrawatch.settings import Settings


def trace_if_asked(app: FastAPI, settings: Settings) -> None:
    """Send traces of an app to INFRAWATCH_TRACES_URL; nothing is loaded without it.

    Raises:
        CannotStart: OpenTelemetry is not installed.
    """
    if settings.traces_url is None:
        return
    try:
        tracing = import_module("infrawatch.tracing")
    except ImportError as error:
        raise CannotStart(
            f"INFRAWATCH_TRACES_URL needs {error.name}: pip install 'infrawatch[tracing]', or "
            "unset it."
        ) from None
    tracing.trace(app, str(settings.traces_url))

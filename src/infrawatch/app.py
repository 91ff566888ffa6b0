"""The composition root: what is opened at start, who is told what, which routes there are."""

import asyncio
import gc
import signal
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any
from uuid import UUID

import structlog
from fastapi import FastAPI
from starlette_compress import CompressMiddleware
from typing_extensions import TypedDict

from infrawatch import health, problems
from infrawatch.access.loopback import LoopbackOnly
from infrawatch.errors import StoreUnavailable
from infrawatch.health import CountRequests, Health
from infrawatch.ingest import router as ingest
from infrawatch.ingest.bounds import TimeBounds
from infrawatch.ingest.intake import Intake
from infrawatch.ingest.schemas import openapi_components
from infrawatch.ingest.series_cache import SeriesCache
from infrawatch.ingest.writer import GroupWriter
from infrawatch.model.timerange import now_us
from infrawatch.query import router as query
from infrawatch.query.plan import Limits, Reader
from infrawatch.settings import Settings
from infrawatch.store import migrations
from infrawatch.store.database import Database
from infrawatch.store.installation import get_epoch
from infrawatch.telemetry import Telemetry
from infrawatch.web import router as web

log = structlog.get_logger()

GC_THRESHOLD = 100_000
"""A large batch makes this many dicts; with CPython's 700 the collector would run all the time."""


class State(TypedDict):
    """What `lifespan` opens and dependencies read."""

    epoch: UUID
    intake: Intake
    reader: Reader
    health: Health
    max_body_bytes: int


def create_app(settings: Settings) -> FastAPI:
    """Make a server; everything it needs is opened when its lifespan starts."""
    telemetry = Telemetry()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[State, None]:
        async with _database(settings) as database, asyncio.TaskGroup() as tasks:
            async with database.reading() as connection:
                epoch = await get_epoch(connection)
            writer = GroupWriter(
                database,
                telemetry,
                backlog_samples=settings.write_backlog_samples,
                group_samples=settings.write_group_samples,
                deadline=settings.write_deadline,
            )
            tasks.create_task(_vital(writer.run(), "ingest.writer"))
            _settle_garbage_collection()
            yield State(
                epoch=epoch,
                intake=_intake(settings, database, writer, telemetry),
                reader=Reader(database, epoch, _limits(settings)),
                health=_health(database, telemetry),
                max_body_bytes=settings.max_body_bytes,
            )
            writer.close()  # leaving the group waits for the last commits

    app = FastAPI(
        title="InfraWatch",
        summary="Telemetry on PostgreSQL: acknowledged means committed.",
        version=version("infrawatch"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(CompressMiddleware, minimum_size=1_000)
    if settings.auth == "off":
        app.add_middleware(LoopbackOnly)
    app.add_middleware(CountRequests, telemetry=telemetry)
    problems.install(app)
    for router in (ingest.router, query.router, health.router):
        app.include_router(router)
    web.install(app)
    _describe_bodies(app)
    return app


def _database(settings: Settings) -> AbstractAsyncContextManager[Database]:
    if settings.database_url is None:
        raise ValueError("INFRAWATCH_DATABASE_URL is not set")
    return Database.open(
        settings.database_url.get_secret_value(),
        write_pool_size=settings.write_pool_size,
        read_pool_size=settings.read_pool_size,
        write_deadline=settings.write_deadline,
        read_deadline=settings.read_deadline,
    )


def _intake(
    settings: Settings, database: Database, writer: GroupWriter, telemetry: Telemetry
) -> Intake:
    return Intake(
        database,
        writer,
        SeriesCache(settings.series_cache_bytes),
        telemetry,
        bounds=TimeBounds(settings.retention, settings.max_future, now_us),
        deadline=settings.write_deadline,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        series=settings.read_max_series,
        samples=settings.read_max_samples,
        deadline=settings.read_deadline,
    )


def _health(database: Database, telemetry: Telemetry) -> Health:
    async def database_answers() -> None:
        found = await migrations.find_revision(database)
        if found != migrations.newest_revision():
            raise StoreUnavailable(
                f"the schema is at {found}, this version speaks {migrations.newest_revision()}: "
                "run `infrawatch migrate`"
            )

    def refresh() -> None:
        for pool, connections in database.connections().items():
            telemetry.pool_connections.labels(pool).set(connections)

    return Health(telemetry, {"database": database_answers}, refresh)


def _describe_bodies(app: FastAPI) -> None:
    """Add to the OpenAPI document what routes read as raw bytes."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["components"]["schemas"] |= openapi_components()
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _settle_garbage_collection() -> None:
    """What was imported stays, so the collector need not look at it again (p99 halves)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 100)


async def _vital(work: Coroutine[object, object, None], name: str) -> None:
    """Do work the service cannot live without; when it fails, ask the process to leave.

    uvicorn keeps serving after a task of the lifespan has died.
    """
    try:
        await work
    except Exception:
        log.critical("vital_task_failed", task=name, exc_info=True)
        signal.raise_signal(signal.SIGTERM)
        raise

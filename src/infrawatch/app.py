"""The composition root: opens resources, wires components together and mounts routes."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from starlette_compress import CompressMiddleware, add_compress_type
from typing_extensions import TypedDict

from infrawatch import health, problems
from infrawatch.access import openapi as access_openapi
from infrawatch.access.access import Access, AccessOptions
from infrawatch.access.limits.limiter import Limiter, RateLimitHeaders
from infrawatch.access.login.oidc_options import OidcOptions
from infrawatch.access.requests import browsers
from infrawatch.access.requests.methods import HeadIsGet
from infrawatch.access.requests.proxies import ProxiedApp
from infrawatch.access.requests.request_ids import RequestIds
from infrawatch.access.routes import keys, limits, oidc, session
from infrawatch.errors import CannotStart, StoreUnavailable
from infrawatch.health import CountRequests, Health
from infrawatch.ingest import router as ingest
from infrawatch.ingest.bounds import TimeBounds
from infrawatch.ingest.intake import Intake, Rules
from infrawatch.ingest.protocols import collectd, vm_import
from infrawatch.ingest.protocols.exposition import router as exposition
from infrawatch.ingest.protocols.influx import router as influx
from infrawatch.ingest.protocols.otlp import router as otlp
from infrawatch.ingest.protocols.remote_write import router as remote_write
from infrawatch.ingest.routing import FastPath
from infrawatch.ingest.scheduling.admission import AdmissionControl, InFlight
from infrawatch.ingest.schemas import openapi_components
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.writer import GroupWriter, OnCommitted
from infrawatch.live import asyncapi
from infrawatch.live import router as live
from infrawatch.live.pipeline import LiveOptions, Pipeline
from infrawatch.live.subscription import LiveUpdates
from infrawatch.model.timerange import now_us
from infrawatch.query import router as query
from infrawatch.query.limits import ReadLimits
from infrawatch.query.plan import Reader
from infrawatch.query.promql import router as promql
from infrawatch.runtime import settle, stop, vital
from infrawatch.settings import Settings
from infrawatch.store import schema
from infrawatch.store.database import Database
from infrawatch.store.installation import get_epoch
from infrawatch.store.partitions import CHUNKS, ROLLUPS, PartitionedTable
from infrawatch.store.rollups.buckets import FIVE_MINUTES, HOUR
from infrawatch.telemetry import Telemetry
from infrawatch.upkeep.compaction import STATEMENT_DEADLINE
from infrawatch.upkeep.scheduler import Scheduler
from infrawatch.web import router as web

_ROUTERS = (
    # A new protocol is one line here. Routes are matched in order, so the busiest come first;
    # ingest routes are mostly matched by `FastPath`.
    query.router,
    promql.router,
    ingest.router,
    remote_write.router,
    influx.router,
    otlp.router,
    collectd.router,
    exposition.router,
    vm_import.router,
    live.router,
    asyncapi.router,
    keys.router,
    limits.router,
    session.router,
    oidc.router,
    health.router,
)
# FastAPI builds the routes of an included router once more, when the first request comes.
_ROUTES = [route for router in _ROUTERS for route in router.routes]


class State(TypedDict):
    """State that `_lifespan` opens and dependencies read."""

    access: Access
    epoch: UUID
    intake: Intake
    reader: Reader
    live: LiveUpdates
    health: Health
    max_body_bytes: int


def create_app(settings: Settings) -> FastAPI:
    """Create the application; its lifespan opens the resources it needs."""
    telemetry = Telemetry()
    app = ProxiedApp(
        title="InfraWatch",
        summary="Telemetry on PostgreSQL: acknowledged means committed.",
        description="The frames of `WS /v1/live` are described at [/docs/live](/docs/live).",
        version=version("infrawatch"),
        lifespan=lambda _app: _lifespan(settings, telemetry),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # an unknown path is a 404 problem
        # `health` and `tracing` provide these; looking for other consumers costs every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.trusted_proxies, app.public_url = settings.trusted_proxies, settings.public_url
    for media_type in ("application/x-ndjson", "text/csv"):  # not compressed by default
        add_compress_type(media_type)
    app.add_middleware(FastPath, routes=_ROUTES)
    app.add_middleware(CompressMiddleware, minimum_size=1_000, zstd_level=1, gzip_level=1)
    is_off = settings.authentication == "off"
    browsers.install(app, telemetry, settings.cors_origins, is_loopback_only=is_off)
    problems.install(app)
    app.add_middleware(
        AdmissionControl, in_flight=InFlight(settings.write_backlog_bytes, telemetry)
    )
    app.add_middleware(CountRequests, telemetry=telemetry)
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(RequestIds)
    app.add_middleware(HeadIsGet)
    app.routes.extend(_ROUTES)
    web.install(app)
    _describe(app, settings)
    return app


@asynccontextmanager
async def _lifespan(settings: Settings, telemetry: Telemetry) -> AsyncGenerator[State, None]:
    async with (
        _database(settings) as database,
        _upkeep_database(settings) as upkeep_database,
        _access(settings, telemetry) as access,
        asyncio.TaskGroup() as tasks,
    ):
        async with database.reading() as connection:
            epoch = await get_epoch(connection)
        pipeline = Pipeline(database, epoch, telemetry, _live_options(settings))
        writer = _writer(settings, database, telemetry, pipeline.on_committed)
        tasks.create_task(vital(writer.run(), may_end=True))  # ends once closed, never earlier
        upkeep = Scheduler(
            upkeep_database,
            telemetry,
            retentions=_retentions(settings),
            replay_window=settings.replay_window,
        )
        health = _health(database, pipeline, telemetry)
        read_limits = ReadLimits(
            settings.read_max_series, settings.read_max_samples, settings.read_deadline
        )
        runs = (*pipeline.runs, *upkeep.runs, *access.runs, health.run)
        endless = [tasks.create_task(vital(run())) for run in runs]
        settle()
        try:
            yield State(
                access=access,
                epoch=epoch,
                intake=_intake(settings, database, writer, telemetry, access.limiter),
                reader=Reader(database, epoch, read_limits),
                live=pipeline.live,
                health=health,
                max_body_bytes=settings.max_body_bytes,
            )
        finally:  # also if startup is aborted: the task group would cancel them only once
            writer.close()  # leaving the task group awaits the last commits
            await stop(endless)


def _live_options(settings: Settings) -> LiveOptions:
    return LiveOptions(settings.replay_window, settings.read_max_series, _redis_url(settings))


def _redis_url(settings: Settings) -> str | None:
    return None if settings.redis_url is None else settings.redis_url.get_secret_value()


def _writer(
    settings: Settings, database: Database, telemetry: Telemetry, on_committed: OnCommitted
) -> GroupWriter:
    return GroupWriter(
        database,
        telemetry,
        backlog_samples=settings.write_backlog_samples,
        group_samples=settings.write_group_samples,
        deadline=settings.write_deadline,
        on_committed=on_committed,
    )


def _url(settings: Settings) -> str:
    if settings.database_url is None:
        raise ValueError("INFRAWATCH_DATABASE_URL is not set")
    return settings.database_url.get_secret_value()


def _upkeep_database(settings: Settings) -> AbstractAsyncContextManager[Database]:
    """Open a separate pool: merges never compete with batches and queries for connections."""
    return Database.open(_url(settings), read_pool_size=2, write_deadline=STATEMENT_DEADLINE)


def _access(settings: Settings, telemetry: Telemetry) -> AbstractAsyncContextManager[Access]:
    return Access.open(
        _url(settings),
        telemetry,
        AccessOptions(
            is_required=settings.authentication == "required",
            are_metrics_open=settings.metrics == "open",
            session_idle=settings.session_idle,
            session_life=settings.session_life,
            write_deadline=settings.write_deadline,
            password_file=settings.admin_password_file,
            redis_url=_redis_url(settings),
            oidc=_oidc(settings),
        ),
    )


def _oidc(settings: Settings) -> OidcOptions | None:
    if settings.oidc_issuer is None:
        return None
    if settings.oidc_client_id is None:
        raise CannotStart("INFRAWATCH_OIDC_ISSUER needs INFRAWATCH_OIDC_CLIENT_ID beside it.")
    values = {field.name: getattr(settings, f"oidc_{field.name}") for field in fields(OidcOptions)}
    return OidcOptions(**values)


def _database(settings: Settings) -> AbstractAsyncContextManager[Database]:
    return Database.open(
        _url(settings),
        write_pool_size=settings.write_pool_size,
        read_pool_size=settings.read_pool_size,
        write_deadline=settings.write_deadline,
        read_deadline=settings.read_deadline,
    )


def _intake(
    settings: Settings,
    database: Database,
    writer: GroupWriter,
    telemetry: Telemetry,
    limiter: Limiter,
) -> Intake:
    return Intake(
        database,
        writer,
        SeriesCache(settings.series_cache_bytes),
        telemetry,
        rules=Rules(
            TimeBounds(settings.retention, settings.max_past, settings.max_future, now_us),
            limiter,
            settings.write_deadline,
        ),
    )


def _retentions(settings: Settings) -> Mapping[PartitionedTable, timedelta | None]:
    return {
        CHUNKS: settings.retention,
        ROLLUPS[FIVE_MINUTES]: settings.rollup_5m_retention,
        ROLLUPS[HOUR]: settings.rollup_1h_retention,
    }


def _health(database: Database, pipeline: Pipeline, telemetry: Telemetry) -> Health:
    schema.newest_revision()  # read now: an upgrade replaces the files of a running server

    async def database_answers() -> None:
        found = await schema.find_revision(database)
        if schema.is_older(found):  # a newer one: an upgrade is in progress
            raise StoreUnavailable(str(schema.find_difference(found)))

    def refresh() -> None:
        for pool, connections in database.connections().items():
            telemetry.pool_connections.labels(pool).set(connections)
        pipeline.refresh()

    return Health(telemetry, {"database": database_answers}, refresh, pipeline.describe)


def _describe(app: FastAPI, settings: Settings) -> None:
    """Add to the OpenAPI document what FastAPI cannot infer: raw bodies and problems."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for kind, components in openapi_components(now_us() // 1000).items():
            document["components"].setdefault(kind, {}).update(components)
        access_openapi.describe(document, is_required=settings.authentication == "required")
        problems.describe(document, is_loopback_only=settings.authentication == "off")
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way

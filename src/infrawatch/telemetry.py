"""InfraWatch's own telemetry: metrics for /metrics, and structured logs."""

import logging
import os
import sys
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client's own variable, which it reads on import: the directory to which several
processes write their metrics, so that each can show the sum."""

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class _Http:
    """HTTP requests."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.requests = Counter(
            "infrawatch_http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "infrawatch_http_request_duration_seconds",
            "From the request's first byte to the answer's last.",
            ("route",),
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.refused = Counter(
            "infrawatch_requests_refused",
            "Requests of those who may not, by the reason.",
            ("reason",),
            registry=registry,
        )


class _Connections:
    """Connections that were refused or cut."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.connections_cut = Counter(
            "infrawatch_connections_cut",
            "Connections closed before a request was read, or an answer taken, by reason.",
            ("reason",),
            registry=registry,
        )


class _Pressure:
    """Concurrent load and overload."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.overload_refusals = Counter(
            "infrawatch_overload_refusals",
            "Requests refused before they were looked at, as too much was under way.",
            registry=registry,
        )
        self.under_way_bytes = Gauge(
            "infrawatch_under_way_bytes",
            "Bytes of requests that are not answered yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )


class _Process:
    """Tasks of this process."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.tasks = Gauge(
            "infrawatch_tasks",
            "Tasks of the event loop, one for each request under way among them.",
            registry=registry,
            multiprocess_mode="livesum",
        )


class _Ingest:
    """Outcomes of received samples."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.accepted = Counter(
            "infrawatch_samples_accepted",
            "Samples committed and acknowledged.",
            ("format",),
            registry=registry,
        )
        self.rejected = Counter(
            "infrawatch_samples_rejected",
            "Samples refused, by the code the sender was given.",
            ("format", "code"),
            registry=registry,
        )
        self.folded = Counter(
            "infrawatch_samples_folded",
            "Samples finer than a microsecond that a later one of their batch replaced.",
            registry=registry,
        )
        self.exemplars = Counter(
            "infrawatch_exemplars_ignored",
            "Exemplars that came with samples; they are not stored.",
            ("format",),
            registry=registry,
        )
        self.metadata_refused = Counter(
            "infrawatch_metadata_refused",
            "Metrics whose type, unit and help were not stored: their tenant has as many metrics "
            "with metadata as it may have active series (`infrawatch limits`).",
            registry=registry,
        )
        self.series_resolved = Counter(
            "infrawatch_series_resolved",
            "Series looked up or created in the database, because the cache did not know them.",
            registry=registry,
        )


class _Commits:
    """Group commits and database connections."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.backlog_samples = Gauge(
            "infrawatch_write_backlog_samples",
            "Samples that wait for their commit.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.commit_seconds = Histogram(
            "infrawatch_commit_duration_seconds",
            "One group's transaction, COPY and COMMIT included.",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.group_samples = Histogram(
            "infrawatch_group_samples",
            "Samples committed together.",
            buckets=(1, 10, 100, 1_000, 10_000, 100_000),
            registry=registry,
        )
        self.groups_failed = Counter(
            "infrawatch_groups_failed",
            "Groups that were not committed; their senders were told to try again.",
            registry=registry,
        )
        self.pool_connections = Gauge(
            "infrawatch_pool_connections",
            "Connections to PostgreSQL in use.",
            ("pool",),
            registry=registry,
            multiprocess_mode="livesum",
        )


class _Live:
    """Live subscriptions."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.viewers = Gauge(
            "infrawatch_live_subscriptions",
            "Subscriptions being served.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.live_lag_seconds = Gauge(
            "infrawatch_live_lag_seconds",
            "How far viewers may be behind what is committed.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.bus_errors = Counter(
            "infrawatch_bus_errors",
            "Times that Redis could not be used; the journal stands in for it.",
            registry=registry,
        )


class _Upkeep:
    """Compaction of the store."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.uncompacted_samples = Gauge(
            "infrawatch_uncompacted_samples",
            "Samples that are in the journal only.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.compacted_samples = Counter(
            "infrawatch_samples_compacted",
            "Samples copied from the journal into chunks, by this process.",
            registry=registry,
        )
        self.merged_samples = Counter(
            "infrawatch_samples_merged",
            "Samples of windows closed, or opened again for late ones, by this process.",
            registry=registry,
        )


class Telemetry(_Http, _Connections, _Process, _Pressure, _Ingest, _Commits, _Live, _Upkeep):
    """All metrics of a server process; its components share one instance."""

    def __init__(self) -> None:
        self.is_shared = SHARED_DIRECTORY in os.environ
        self._shown = CollectorRegistry()
        if self.is_shared:  # /metrics sums the files of all processes
            MultiProcessCollector(self._shown)  # type: ignore[no-untyped-call]
        for part in Telemetry.__bases__:
            part.__init__(self, None if self.is_shared else self._shown)  # type: ignore[misc]  # each declares its own
        self._sampled: dict[Gauge, Callable[[], float]] = {}

    def sample(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Set a gauge only before it is shown: its value changes much more often than that."""
        self._sampled[gauge] = read

    def refresh(self) -> None:
        """Set the gauges that are sampled."""
        for gauge, read in self._sampled.items():
            gauge.set(read())

    def exposition(self) -> bytes:
        """Return the metrics of all processes that share them, in the Prometheus text format."""
        return generate_latest(self._shown)


CONNECTIONS_LOGGER = "uvicorn.error.connections"


def configure_logging(log_format: str, log_level: str) -> None:
    """Write structured logs to stderr, as JSON lines or in a human-readable format.

    Libraries that use the standard `logging` module log warnings and errors only.
    """
    is_json = log_format == "json"
    renderer = (
        structlog.processors.JSONRenderer()
        if is_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default shows the values of local variables, which may be secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    level = logging.getLevelNamesMapping()[log_level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if is_json else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=max(level, logging.WARNING))
    logging.getLogger("asyncio").addFilter(_is_news)
    # Input that is not HTTP is counted; logging each occurrence would let anyone fill the log.
    connections = logging.getLogger(CONNECTIONS_LOGGER)
    connections.setLevel(logging.ERROR)
    connections.addFilter(lambda record: not record.getMessage().startswith("Invalid UTF-8"))


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for records of futures that asyncpg abandons when a COPY's connection dies.

    The caller of the COPY gets the error itself; the abandoned future would look like a bug here.
    """
    error = record.exc_info[0] if record.exc_info else None
    is_forgotten = record.getMessage().startswith("Future exception was never retrieved")
    return not (is_forgotten and error is not None and error.__module__.startswith("asyncpg."))

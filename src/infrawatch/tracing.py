"""Traces of requests and their PostgreSQL and Redis calls, sent as OTLP over HTTP.

Imported only when INFRAWATCH_TRACES_URL is set: it needs the extra `tracing`, and adds some cost
to every request. OpenTelemetry's own variables apply too, such as OTEL_TRACES_SAMPLER.
"""

from importlib.metadata import version
from socket import gethostname

from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

EXPORT_WITHIN_S = 2
"""An unreachable collector must not delay the server's shutdown."""

UNTRACED = "/livez,/readyz,/metrics,/ping,/health"
"""Paths that probes and scrapers request every few seconds."""


def trace(app: FastAPI, url: str) -> None:
    """Trace an app, and every connection that this process opens from now on."""
    resource = Resource.create(
        {
            "service.name": "infrawatch",
            "service.version": version("infrawatch"),
            "host.name": gethostname(),
        }
    )
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_WITHIN_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        excluded_urls=UNTRACED,
        exclude_spans=["receive", "send"],
        http_capture_headers_server_response=["x-request-id"],
    )
    for kind in (SQLAlchemyInstrumentor, AsyncPGInstrumentor, RedisInstrumentor):
        # Their dependency check does not know SQLAlchemy 2.1 yet; a test verifies that it works.
        kind().instrument(tracer_provider=provider, skip_dep_check=True)

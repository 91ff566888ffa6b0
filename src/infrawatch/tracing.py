"""Traces of requests and of what they ask of PostgreSQL and Redis, sent as OTLP over HTTP.

Imported only when INFRAWATCH_TRACES_URL is set: it needs the extra `tracing`, and costs every
request something. OpenTelemetry's own variables hold too, such as OTEL_TRACES_SAMPLER.
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
"""A collector that is away must not hold up the stop of the server."""

UNTRACED = "/livez,/readyz,/metrics,/ping,/health"
"""Asked every few seconds, by machines."""


def trace(app: FastAPI, url: str) -> None:
    """Trace an app, and every connection this process makes from now on."""
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
        # Their own check knows no SQLAlchemy 2.1 yet; a test of ours holds that it works.
        kind().instrument(tracer_provider=provider, skip_dep_check=True)

"""Traces: of a request down to its statements, where they are asked for; nothing else is loaded."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from httpx import AsyncClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pushing import push, series
from scripted_server import eventually
from serving_process import serving_process
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infrawatch.embedded.valkey import valkey_running

UNASKED = """
import sys
from infrawatch.app import create_app
from infrawatch.server.serving import trace_if_configured
from infrawatch.settings import Settings

settings = Settings(_env_file=None)
trace_if_configured(create_app(settings), settings)
print([name for name in sys.modules if name.startswith(
    ("infrawatch.tracing", "opentelemetry.exporter", "opentelemetry.instrumentation"))])
"""

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path, target=None):
        if name.startswith("opentelemetry.instrumentation"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from infrawatch.__main__ import main
main()
"""


class Receiver:
    """Takes what an OpenTelemetry collector takes."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.services: set[str] = set()

    async def take(self, request: Request) -> Response:
        body = ExportTraceServiceRequest.FromString(await request.body())
        for one in body.resource_spans:
            attributes = {pair.key: pair.value.string_value for pair in one.resource.attributes}
            self.services.add(attributes["service.name"])
            self.spans += [span for scope in one.scope_spans for span in scope.spans]
        return Response(media_type="application/x-protobuf")

    def trace_of(self, request_id: str) -> list[Span]:
        """The spans beneath the request that was answered with this id."""
        for span in self.spans:
            for pair in span.attributes:
                values = [one.string_value for one in pair.value.array_value.values]
                if pair.key.endswith("x_request_id") and values == [request_id]:
                    return [one for one in self.spans if one.trace_id == span.trace_id]
        return []


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver, None]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/v1/traces", receiver.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        await eventually(lambda: server.started)
        receiver.url = "http://{}:{}/v1/traces".format(*server.servers[0].sockets[0].getsockname())
        try:
            yield receiver
        finally:
            server.should_exit = True


async def test_a_trace_leads_from_the_request_to_its_statements(
    database_url: str, temporary_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    async with (
        receiving() as receiver,
        valkey_running(temporary_root / "traced") as redis_url,
        serving_process(database_url, TRACES_URL=receiver.url, REDIS_URL=redis_url) as server,
        AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        await push(client, series("m"))
        await client.get("/livez", headers={"X-Request-Id": "unimportant"})
        answer = await client.get("/v1/latest?match=m", headers={"X-Request-Id": "followed"})
        assert answer.status_code == 200
        await eventually(lambda: receiver.trace_of("followed"))
        await eventually(lambda: any(span.name == "PUBLISH" for span in receiver.spans))
        found = receiver.trace_of("followed")

    assert receiver.services == {"infrawatch"}
    [request] = [span for span in found if not span.parent_span_id]
    assert request.name == "GET /v1/latest"
    systems = {
        pair.value.string_value
        for span in found
        for pair in span.attributes
        if pair.key in {"db.system", "db.system.name"}
    }
    assert systems == {"postgresql"}
    assert any(span.name.startswith("SELECT") for span in found)
    assert not receiver.trace_of("unimportant")


def test_tracing_is_not_loaded_unless_enabled() -> None:
    loaded = subprocess.check_output([sys.executable, "-c", UNASKED], text=True)
    assert loaded == "[]\n"


def test_tracing_without_its_package_is_explained(database_url: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-c", WITHOUT, "serve", "--port", "0"],
        env=os.environ
        | {
            "INFRAWATCH_DATABASE_URL": database_url,
            "INFRAWATCH_TRACES_URL": "http://127.0.0.1:1/v1/traces",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "pip install 'infrawatch[tracing]'" in refused.stderr
    assert "Traceback" not in refused.stderr

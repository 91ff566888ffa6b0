"""A real HTTP server that records requests and returns scripted responses."""

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Batch = dict[str, Any]
"""A native batch, as it was sent."""


@dataclass(slots=True)
class ScriptedServer:
    """`answers` are used up one a request; then every batch is accepted, or what `rule` says."""

    url: str
    answers: list[Response] = field(default_factory=list)
    rule: Callable[[Request, Batch], Response | None] = lambda _request, _batch: None
    batches: list[Batch] = field(default_factory=list)
    accepted: list[Batch] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        batch: Batch = json.loads(gzip.decompress(await request.body()))
        self.requests.append(request)
        self.batches.append(batch)
        answer = self.answers.pop(0) if self.answers else self.rule(request, batch)
        if answer is not None:
            return answer
        self.accepted.append(batch)
        return JSONResponse({"accepted": count_samples(batch), "rejected": 0, "cursor": "c"})


@asynccontextmanager
async def scripted_server(port: int = 0) -> AsyncGenerator[ScriptedServer, None]:
    told = ScriptedServer(url="")
    app = Starlette(routes=[Route("/v1/samples", told.answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        await eventually(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        told.url = f"http://{host}:{port}"
        try:
            yield told
        finally:
            server.should_exit = True


def problem(status: int, code: str = "told", **headers: str) -> Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"code": code, "detail": f"told to say {status}"}, status, names)


def count_samples(batch: Batch) -> int:
    return sum(len(series["samples"]) for series in batch["series"])


async def eventually(condition: Callable[[], object], *, within_s: float = 60) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # what is waited for knows no events
            await asyncio.sleep(0.005)

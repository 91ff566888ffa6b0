"""The fast path to the routes of ingest: what a query says, and which requests go there."""

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from infrawatch.ingest import router as native
from infrawatch.ingest.protocols import collectd, vm_import
from infrawatch.ingest.protocols.exposition import router as exposition
from infrawatch.ingest.protocols.influx import router as influx
from infrawatch.ingest.protocols.otlp import router as otlp
from infrawatch.ingest.protocols.remote_write import router as remote_write
from infrawatch.ingest.routing import Arguments, IngestRoute

ROUTES = {
    one.original_route.path: one.original_route
    for room in (native, remote_write, influx, otlp, collectd, exposition, vm_import)
    for one in iter_route_contexts(room.router.routes)
    if isinstance(one.original_route, APIRoute)
}


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/write", b"", {}),
        ("/write", b"db=telegraf", {"precision": "ns"}),
        ("/write", b"db=telegraf&precision=ms&u=&p=iw_a_b", {"precision": "ms"}),
        ("/write", b"precision=%C2%B5", {"precision": "µ"}),
        ("/write", b"precision=ms&precision=s", {"precision": "s"}),
        ("/write", b"precision=fortnights", None),
        ("/write", b"precision=", None),
        ("/v1/samples", b"partial=true", {"precision": "ms", "partial": True, "dry_run": False}),
        ("/v1/samples", b"partial=perhaps", None),
        ("/v1/samples", b"partial=true&dryrun=true", None),
        ("/v1/samples", b"partial=true&partial=true", None),
    ],
)
def test_a_query_is_deterministic(path: str, query: bytes, expected: Arguments | None) -> None:
    route = ROUTES[path]
    assert isinstance(route, IngestRoute)

    assert [route.find_arguments(query) for _ in range(2)] == [expected] * 2


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/samples", "/v1/metrics", "/api/v1/write"),
        *("/write", "/api/v2/write", "/api/v3/write_lp"),
        *("/v1/collectd", "/v1/exposition", "/api/v1/import"),
    ],
)
def test_every_format_has_its_fast_path(path: str) -> None:
    route = ROUTES[path]

    assert isinstance(route, IngestRoute)
    assert route.find_arguments(b"") == {}

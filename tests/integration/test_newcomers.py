"""What a newcomer gets wrong with curl, and whether the answer says what to do about it."""

import gzip
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from httpx import AsyncClient
from pushing import now_ms

NOW_S = now_ms() // 1_000
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
XML = {"Content-Type": "application/xml"}
LINES = {"Content-Type": "application/x-ndjson"}


class Mistake(NamedTuple):
    """A request that is wrong, and what its refusal has to say."""

    name: str
    status: int
    says: tuple[str, ...]
    body: bytes = b""
    path: str = "/v1/samples"
    headers: Mapping[str, str] = JSON
    method: str = "POST"


def batch(moment: Any = NOW_S * 1_000, value: Any = 1, **fields: Any) -> bytes:
    series = {"metric": "m", "samples": [[moment, value]], **fields}
    return json.dumps({"series": [series]}).encode()


UTF_16 = batch().decode().encode("utf-16")
TWO_LINES = b'{"metric":"m"}\n{"metric":"n"}'
SECONDS, MILLISECONDS = f"{NOW_S}, read as ", f"{NOW_S}000, read as "

MISTAKES = [
    Mistake("seconds", 422, (SECONDS + "milliseconds", "is it in seconds?"), batch(NOW_S)),
    Mistake("ns", 422, ("is it in nanoseconds?",), batch(NOW_S * 10**9)),
    Mistake(
        "ms for line protocol",
        400,
        (MILLISECONDS + "nanoseconds", "is it in milliseconds?"),
        f"cpu value=1 {NOW_S}000".encode(),
        "/write",
    ),
    Mistake("nothing", 400, ("the body is empty",)),
    Mistake("gzip unsaid", 400, ("`Content-Encoding: gzip`",), gzip.compress(batch())),
    Mistake("byte order mark", 400, ("byte order mark",), b"\xef\xbb\xbf" + batch()),
    Mistake("UTF-16", 400, ("send UTF-8",), UTF_16),
    Mistake("lines as JSON", 400, ("application/x-ndjson",), TWO_LINES),
    Mistake("trailing comma", 400, ("trailing comma at line 1 column 14",), b'{"series":[1,]}'),
    Mistake("a broken line", 422, ('"line":1', "at column 13"), b'{"metric":"m"', headers=LINES),
    Mistake("lines with a mark", 422, ("byte order mark",), b"\xef\xbb\xbf{}", headers=LINES),
    Mistake(
        "gzip of lines", 422, ("`Content-Encoding: gzip`",), gzip.compress(b"{}"), headers=LINES
    ),
    Mistake("tags", 422, ("/series/0/tags", "labels"), batch(tags={})),
    Mistake("curl -d", 415, ("use application/json", "-H 'Content-Type"), batch(), headers=FORM),
    Mistake("XML", 415, ("use application/json or application/x-ndjson",), headers=XML),
    Mistake("put", 405, ("PUT is not for /v1/samples: use GET, HEAD, POST",), method="PUT"),
    Mistake("a slash", 404, ("paths have no / at their end",), path="/v1/samples/"),
    Mistake("one letter less", 404, ("did you mean /v1/samples?",), path="/v1/sample"),
    Mistake("no such path", 404, ("nothing is at /select; see /docs",), path="/select"),
    Mistake(
        "a unit there is not",
        422,
        ("precision: it should be 's', 'ms'",),
        batch(),
        "/v1/samples?precision=m",
    ),
    Mistake(
        "an unsigned span",
        422,
        ("did you mean -5m?",),
        path="/v1/range?match=up&start=5m",
        method="GET",
    ),
    Mistake("no query", 400, ("query: it is required",), path="/api/v1/query", method="GET"),
    Mistake(
        "no range",
        400,
        ("got vector; give it a range, such as node_load1[5m]",),
        path="/api/v1/query?query=rate(up)",
        method="GET",
    ),
    Mistake(
        "half a sum",
        400,
        ("something is missing behind '/', with which it ends",),
        path="/api/v1/query?query=up / ",
        method="GET",
    ),
    Mistake("no selector", 422, ("match: it is required",), method="GET"),
    Mistake("SQL", 422, ("such as node_load1{",), path="/v1/latest?match=select * x", method="GET"),
    Mistake(
        "by after",
        400,
        ("sum by (label)",),
        path="/api/v1/query?query=sum(up) by job",
        method="GET",
    ),
    Mistake(
        "no name",
        400,
        ("/metric has no __name__",),
        b'{"metric":{"x":"m"},"values":[1],"timestamps":[1]}',
        "/api/v1/import",
    ),
    Mistake("not snappy", 400, ("not a block of snappy",), b"hello", "/api/v1/write", PROTOBUF),
    Mistake("traces", 404, ("only metrics", "OTEL_TRACES_EXPORTER"), b"{}", "/v1/traces"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
async def test_a_mistake_is_reported_with_what_to_do_about_it(
    client: AsyncClient, mistake: Mistake
) -> None:
    answer = await client.request(
        mistake.method, mistake.path, content=mistake.body, headers=mistake.headers
    )
    assert answer.status_code == mistake.status
    assert [part for part in mistake.says if part not in answer.text] == [], answer.text

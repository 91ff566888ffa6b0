"""Read endpoints under /v1: series, labels, metadata and samples as JSON, NDJSON or CSV."""

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from fastapi.responses import Response

from infrawatch.access.access import Access
from infrawatch.access.needs import READ, MayRead
from infrawatch.access.parameters import OwnRouter
from infrawatch.durations import parse_duration
from infrawatch.errors import InvalidCursor, InvalidInput, InvalidTime
from infrawatch.model.cursor import MAX_CURSOR_CHARACTERS, Cursor
from infrawatch.model.selector import MAX_SELECTOR_CHARACTERS, Selector, parse_selector
from infrawatch.model.timerange import (
    Precision,
    duration_us,
    is_back_from_now,
    now_us,
    parse_range,
    parse_step,
)
from infrawatch.query import encoding, listing, schemas
from infrawatch.query.across import Across
from infrawatch.query.formats import FORMATS, wanted_format
from infrawatch.query.functions import Function
from infrawatch.query.limits import QueryContext
from infrawatch.query.plan import Reader
from infrawatch.query.ranges import RangeQuery
from infrawatch.query.rollups import from_whole_bucket
from infrawatch.query.steps import Steps
from infrawatch.query.streaming import SERIES_WEIGHT, to_response

MAX_PAGE_SERIES = 10_000
MAX_VALUES = 100_000

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"description": "The query is invalid or too broad.", "content": _PROBLEM},
    503: {"description": "Try again after `Retry-After` seconds.", "content": _PROBLEM},
}
_NO_SUCH_LABEL = {"description": "The label name is invalid.", "content": _PROBLEM}

# READ comes first: a caller without permission gets that error, not one about its parameters.
router = OwnRouter(prefix="/v1", tags=["query"], responses=_PROBLEMS, dependencies=[READ])


async def _reader(request: Request) -> Reader:  # FastAPI runs plain functions in a thread
    reader: Reader = request.state.reader
    return reader


async def _context(
    request: Request,
    principal: MayRead,
    wait_for: Annotated[
        str | None,
        Query(
            description="A cursor: answer when that write is visible.",
            max_length=MAX_CURSOR_CHARACTERS,
        ),
    ] = None,
) -> QueryContext:
    access: Access = request.state.access
    return QueryContext(
        principal.tenant_id,
        None if wait_for is None else Cursor.from_text(wait_for),
        access.limiter.budget(principal),
    )


_MATCH = Query(
    alias="match",
    description="Which series: a PromQL vector selector.",
    max_length=MAX_SELECTOR_CHARACTERS,
    examples=['node_load1{instance=~"web-.*"}'],
)


async def _selector(match: Annotated[str, _MATCH]) -> Selector:
    return parse_selector(match)


async def _optional_selector(match: Annotated[str | None, _MATCH] = None) -> Selector | None:
    return None if match is None else parse_selector(match)


TheReader = Annotated[Reader, Depends(_reader)]
TheContext = Annotated[QueryContext, Depends(_context)]
TheSelector = Annotated[Selector, Depends(_selector)]
MaybeSelector = Annotated[Selector | None, Depends(_optional_selector)]
Start = Annotated[str, Query(description="RFC 3339, unix seconds, or back from now; inclusive.")]
End = Annotated[str, Query(description="As `start`; exclusive.")]
Times = Annotated[Precision, Query(description="Unit of the times in the answer.")]


@router.get("/series", response_model=None, responses={200: {"model": schemas.SeriesPage}})
async def list_series(
    reader: TheReader,
    context: TheContext,
    selector: TheSelector,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SERIES)] = 1_000,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    precision: Times = "ms",
) -> Response:
    """Series with the times of their first and last sample, paginated."""
    after = _page_start(cursor)
    found = await reader.series(context, selector, limit=limit + 1, after=after)
    page = found[:limit]
    next_cursor = str(page[-1].series.id) if len(found) > limit else None
    pieces = listing.list_extents(page, precision, next_cursor)
    return to_response(pieces, SERIES_WEIGHT * len(page))


@router.get("/labels", response_model=None, responses={200: {"model": schemas.LabelNames}})
async def list_labels(reader: TheReader, context: TheContext, selector: MaybeSelector) -> Response:
    """Label names, including `__name__`, with the number of series that have each."""
    names = await reader.label_names(context, selector)
    rows = ({"name": name, "series": count} for name, count in names.items())
    return to_response(listing.list_rows(b'{"labels":[', rows, b"]}"), len(names))


@router.get(
    "/labels/{name:path}/values",
    response_model=None,
    responses={200: {"model": schemas.LabelValues}, 404: _NO_SUCH_LABEL},
)
async def list_label_values(
    reader: TheReader,
    context: TheContext,
    name: Annotated[str, Path(max_length=200, examples=["instance"])],
    selector: MaybeSelector,
    limit: Annotated[int, Query(ge=1, le=MAX_VALUES)] = 10_000,
) -> Response:
    """Sorted values of a label with the number of series of each; `__name__` lists metrics."""
    if "\0" in name:
        raise InvalidInput("no label name holds a NUL character")
    values = await reader.label_values(context, name, selector, limit=limit)
    rows = ({"value": value, "series": count} for value, count in values.items())
    return to_response(listing.list_rows(b'{"values":[', rows, b"]}"), len(values))


@router.get("/metadata", response_model=None, responses={200: {"model": schemas.MetadataOut}})
async def list_metadata(
    reader: TheReader,
    context: TheContext,
    metric: Annotated[str | None, Query(max_length=1_024, pattern=r"^[^\x00]*$")] = None,
) -> Response:
    """Type, unit, help text and temporality of the metrics whose senders supplied metadata."""
    found = await reader.metadata(context, metric)
    members = ((name, metadata._asdict()) for name, metadata in found.items())
    pieces = listing.list_members(b'{"metadata":{', members, b"}}")
    return to_response(pieces, SERIES_WEIGHT * len(found))


@router.get("/latest", response_model=None, responses={200: {"model": schemas.Latest}})
async def read_latest(
    reader: TheReader,
    context: TheContext,
    selector: TheSelector,
    max_age: Annotated[str, Query(description="A duration, or `all`.")] = "5m",
    precision: Times = "ms",
) -> Response:
    """The last sample of each series; series that ended with a stale marker are left out."""
    found = await reader.latest(context, selector, since_us=_since(max_age))
    pieces = listing.list_latest(found, precision)
    return to_response(pieces, SERIES_WEIGHT * len(found.columns))


@router.get(
    "/samples",
    response_model=None,
    responses={
        200: {
            "model": schemas.Samples,
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    },
)
async def read_samples(  # noqa: PLR0913, PLR0917  # each is a parameter of the API
    request: Request,
    reader: TheReader,
    context: TheContext,
    selector: TheSelector,
    start: Start = "-1h",
    end: End = "now",
    precision: Times = "ms",
) -> Response:
    """Raw samples, streamed as JSON, NDJSON or CSV depending on the `Accept` header."""
    span = parse_range(start, end, now=now_us())
    media_type = wanted_format(request.headers.get("accept", ""))
    found = await reader.samples(context, selector, span)
    pieces = FORMATS[media_type](found, precision)
    numbers = found.samples + SERIES_WEIGHT * len(found.series)
    answer = to_response(pieces, numbers, media_type)
    answer.headers["Vary"] = "Accept"
    return answer


@router.get("/range", response_model=None, responses={200: {"model": schemas.RangeOut}})
async def read_range(  # noqa: PLR0913, PLR0917  # each is a parameter of the API
    reader: TheReader,
    context: TheContext,
    selector: TheSelector,
    step: Annotated[str, Query(description="A duration of at least 1ms.")] = "1m",
    fn: Annotated[Function, Query(description="What to compute within each step.")] = Function.AVG,
    by: Annotated[str | None, Query(description="Group by these labels: `host,mode`.")] = None,
    across: Annotated[Across | None, Query(description="How a group becomes one series.")] = None,
    start: Start = "-1h",
    end: End = "now",
    precision: Times = "ms",
) -> Response:
    """One value per series and step; steps are half-open and labelled with their start time.

    With `by` or `across`, the answer has one series per group: `by` alone sums each group, `across`
    alone combines all series into one group.

    If `start` is relative to now, the span is six hours or longer, `step` is a multiple of five
    minutes and rollups can answer `fn`, then `start` is moved back to the beginning of a rollup
    bucket: by less than five minutes, or less than an hour if `step` is a multiple of an hour.
    """
    steps = Steps(parse_range(start, end, now=now_us()), parse_step(step))
    labels = tuple(dict.fromkeys(label.strip() for label in (by or "").split(",") if label.strip()))
    query = RangeQuery(
        selector,
        from_whole_bucket(fn, steps) if is_back_from_now(start) else steps,
        fn,
        by=labels,
        across=across or (Across.SUM if labels else None),
    )
    ranges = await reader.range(context, query)
    pieces = encoding.encode_ranges(ranges, precision)
    numbers = ranges.table.values.size + SERIES_WEIGHT * len(ranges.table.values)
    return to_response(pieces, numbers)


def _page_start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    # int() refuses text of thousands of digits.
    is_number = cursor.isascii() and cursor.isdigit() and len(cursor) <= len(str(2**63))
    if not is_number or int(cursor) >= 2**63:
        raise InvalidCursor("this is not a `next_cursor`; pass on what an answer gave you")
    return int(cursor)


def _since(max_age: str) -> int:
    if max_age == "all":
        return 0
    try:
        age_us = duration_us(parse_duration(max_age))
    except ValueError as error:
        raise InvalidTime(f"max_age: {error}, or all") from None
    if age_us == 0:
        raise InvalidTime("max_age: nothing is that young; say how long ago a sample may be")
    return max(now_us() - age_us, 0)

"""The Prometheus endpoints that Grafana and similar clients use, under /api/v1.

Source: Prometheus, "HTTP API".
"""

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from itertools import islice
from typing import Annotated

from fastapi import Form, Path, Query
from fastapi.responses import Response

from infrawatch.errors import InvalidInput, InvalidTime, QueryTooBroad
from infrawatch.model.selector import METRIC_LABEL, parse_selector
from infrawatch.model.timerange import (
    FAR_FUTURE_US,
    TimeRange,
    now_us,
    parse_range,
    parse_step,
    parse_time,
)
from infrawatch.query import listing
from infrawatch.query.encoding import in_pieces
from infrawatch.query.limits import QueryContext
from infrawatch.query.plan import MAX_STEPS, Reader
from infrawatch.query.promql import schemas, unsupported
from infrawatch.query.promql.execution import run_query
from infrawatch.query.promql.moments import LOOKBACK_US, QueryTimes
from infrawatch.query.promql.parsing import parse_query
from infrawatch.query.promql.responses import CUT, encode
from infrawatch.query.promql.routing import prometheus_router
from infrawatch.query.results import SeriesExtent
from infrawatch.query.router import MAX_VALUES, TheContext, TheReader
from infrawatch.query.streaming import SERIES_WEIGHT, PiecesResponse, to_response

_ESCAPED = re.compile(r"_(?:(_)|([0-9a-fA-F]{1,6})_)")
"""An escaped character in a name that begins with U__."""

_LIKE = "2.45.0"
"""The Prometheus version whose API this is: clients decide by it which features to use."""

_DATA = b'{"status":"success","data":['

_QueryParameters = schemas.InstantParameters | schemas.RangeParameters

router = prometheus_router()


@router.get("/query", response_model=None, responses={200: {"model": schemas.QueryAnswer}})
async def query(
    reader: TheReader,
    context: TheContext,
    parameters: Annotated[schemas.InstantParameters, Query()],
) -> Response:
    """Evaluate a PromQL query at one moment."""
    return await _instant(reader, context, parameters)


@router.post("/query", response_model=None, responses={200: {"model": schemas.QueryAnswer}})
async def query_by_form(
    reader: TheReader, context: TheContext, parameters: Annotated[schemas.InstantParameters, Form()]
) -> Response:
    """The same as GET, with the parameters as a form."""
    return await _instant(reader, context, parameters)


@router.get("/query_range", response_model=None, responses={200: {"model": schemas.QueryAnswer}})
async def query_range(
    reader: TheReader, context: TheContext, parameters: Annotated[schemas.RangeParameters, Query()]
) -> Response:
    """Evaluate a PromQL query at `start` and every `step` after it, up to and including `end`."""
    return await _range(reader, context, parameters)


@router.post("/query_range", response_model=None, responses={200: {"model": schemas.QueryAnswer}})
async def query_range_by_form(
    reader: TheReader, context: TheContext, parameters: Annotated[schemas.RangeParameters, Form()]
) -> Response:
    """The same as GET, with the parameters as a form."""
    return await _range(reader, context, parameters)


@router.get("/series", response_model=None, responses={200: {"model": schemas.SeriesAnswer}})
async def list_series(
    reader: TheReader, context: TheContext, parameters: Annotated[schemas.SeriesParameters, Query()]
) -> Response:
    """The labels of series that have samples in a span."""
    return await _series(reader, context, parameters)


@router.post("/series", response_model=None, responses={200: {"model": schemas.SeriesAnswer}})
async def list_series_by_form(
    reader: TheReader, context: TheContext, parameters: Annotated[schemas.SeriesParameters, Form()]
) -> Response:
    """The same as GET, with the parameters as a form."""
    return await _series(reader, context, parameters)


@router.get("/labels", response_model=None, responses={200: {"model": schemas.NamesAnswer}})
async def list_labels(
    reader: TheReader, context: TheContext, parameters: Annotated[schemas.NamesParameters, Query()]
) -> Response:
    """Label names, including `__name__`."""
    return await _labels(reader, context, parameters)


@router.post("/labels", response_model=None, responses={200: {"model": schemas.NamesAnswer}})
async def list_labels_by_form(
    reader: TheReader, context: TheContext, parameters: Annotated[schemas.NamesParameters, Form()]
) -> Response:
    """The same as GET, with the parameters as a form."""
    return await _labels(reader, context, parameters)


@router.get(
    "/label/{name}/values", response_model=None, responses={200: {"model": schemas.NamesAnswer}}
)
async def list_label_values(
    reader: TheReader,
    context: TheContext,
    name: Annotated[str, Path(max_length=400, examples=["instance"])],
    parameters: Annotated[schemas.NamesParameters, Query()],
) -> Response:
    """Values of a label; special characters in its name may be escaped as in `U__…`."""
    label = _unescaped(name)
    if "\0" in label:
        raise InvalidInput("no label name holds a NUL character")
    _span(parameters.start, parameters.end)
    limit = min(parameters.limit or MAX_VALUES, MAX_VALUES)
    found: set[str] = set()
    for selector in map(parse_selector, parameters.match) if parameters.match else [None]:
        found |= set(await reader.label_values(context, label, selector, limit=limit + 1))
    return _listed(sorted(found), limit)


@router.get("/metadata", response_model=None, responses={200: {"model": schemas.MetadataAnswer}})
async def list_metadata(
    reader: TheReader,
    context: TheContext,
    metric: Annotated[str | None, Query(max_length=1_024, pattern=r"^[^\x00]*$")] = None,
    limit: schemas.Limit = 0,
) -> Response:
    """Type, unit and help text of the metrics whose senders supplied metadata."""
    found = sorted((await reader.metadata(context, metric or None)).items())
    members = (
        (name, [{"type": one.type, "help": one.help, "unit": one.unit}])
        for name, one in found[: limit or None]
    )
    pieces = listing.list_members(b'{"status":"success","data":{', members, b"}}")
    return to_response(pieces, SERIES_WEIGHT * len(found))


@router.get("/format_query")
async def format_query(
    parameters: Annotated[schemas.FormatParameters, Query()],
) -> schemas.TextAnswer:
    """Format a query for reading."""
    return schemas.TextAnswer(data=parse_query(parameters.query).prettify())


@router.post("/format_query")
async def format_query_by_form(
    parameters: Annotated[schemas.FormatParameters, Form()],
) -> schemas.TextAnswer:
    """The same as GET, with the parameters as a form."""
    return schemas.TextAnswer(data=parse_query(parameters.query).prettify())


@router.get("/status/buildinfo")
async def get_build_info() -> schemas.BuildAnswer:
    """Version and application name; Grafana requests this first."""
    application = f"InfraWatch {version('infrawatch')}"
    return schemas.BuildAnswer(data={"version": _LIKE, "application": application})


router.routes.extend(unsupported.router.routes)  # last: its /status/{what} matches buildinfo too


async def _instant(
    reader: Reader, context: QueryContext, parameters: schemas.InstantParameters
) -> Response:
    now = now_us()
    moment = now if parameters.time is None else parse_time(parameters.time, now=now)
    times = QueryTimes(moment, moment, 0, _lookback_us(parameters))
    return await _answer(reader, context, parameters, times, is_range=False)


async def _range(
    reader: Reader, context: QueryContext, parameters: schemas.RangeParameters
) -> Response:
    span = parse_range(parameters.start, parameters.end, now=now_us())
    step_us = parse_step(parameters.step)
    if (span.end_us - span.start_us) // step_us > MAX_STEPS:
        raise InvalidTime(f"more than {MAX_STEPS} steps: ask for a longer step or a shorter span")
    times = QueryTimes(*span, step_us, _lookback_us(parameters))
    return await _answer(reader, context, parameters, times, is_range=True)


async def _answer(
    reader: Reader,
    context: QueryContext,
    parameters: _QueryParameters,
    times: QueryTimes,
    *,
    is_range: bool,
) -> Response:
    if parameters.timeout is not None:
        timeout = timedelta(microseconds=parse_step(parameters.timeout, "timeout"))
        context = replace(context, timeout=timeout)
    result = await run_query(reader, context, parameters.query, times, is_range=is_range)
    pieces = in_pieces(encode(result, parameters.limit or None))
    return PiecesResponse(pieces, "application/json")


def _lookback_us(parameters: _QueryParameters) -> int:
    if parameters.lookback_delta is None:
        return LOOKBACK_US
    return parse_step(parameters.lookback_delta, "lookback_delta")


async def _series(
    reader: Reader, context: QueryContext, parameters: schemas.SeriesParameters
) -> Response:
    span = _span(parameters.start, parameters.end)
    max_series, is_cut = reader.limits_of(context).series, False
    found: dict[int, dict[str, str]] = {}
    for selector in map(parse_selector, parameters.match):
        page = await reader.series(context, selector, limit=max_series + 1, after=0)
        is_cut = is_cut or len(page) > max_series
        for one in page:
            if _overlaps(one, span):
                found[one.series.id] = {METRIC_LABEL: one.series.metric, **one.series.labels}
    if parameters.limit == 0 and (is_cut or len(found) > max_series):
        raise QueryTooBroad(
            f"that means more than {max_series} series: add a label, or ask for a `limit`"
        )
    return _listed(found.values(), parameters.limit or max_series, is_cut=is_cut)


async def _labels(
    reader: Reader, context: QueryContext, parameters: schemas.NamesParameters
) -> Response:
    _span(parameters.start, parameters.end)
    found: set[str] = set()
    for selector in map(parse_selector, parameters.match) if parameters.match else [None]:
        found |= set(await reader.label_names(context, selector))
    return _listed(sorted(found), parameters.limit or len(found))


def _listed(rows: Collection[object], limit: int, *, is_cut: bool = False) -> Response:
    """List at most `limit` rows; warn if there are more, or if rows lack some (`is_cut`)."""
    tail = b"]" + CUT if is_cut or len(rows) > limit else b"]}"
    return to_response(
        listing.list_rows(_DATA, islice(rows, limit), tail), SERIES_WEIGHT * len(rows)
    )


def _span(start: str | None, end: str | None) -> TimeRange:
    now = now_us()
    return TimeRange(
        0 if start is None else parse_time(start, now=now),
        FAR_FUTURE_US if end is None else parse_time(end, now=now),
    )


def _overlaps(extent: SeriesExtent, span: TimeRange) -> bool:
    if extent.first_us is None or extent.last_us is None:
        return False
    return extent.first_us <= span.end_us and extent.last_us >= span.start_us


def _unescaped(name: str) -> str:
    """Decode a name that is escaped with `U__` and character codes, as Prometheus does in paths."""
    if not name.startswith("U__"):
        return name
    return _ESCAPED.sub(_character, name[3:])


def _character(found: re.Match[str]) -> str:
    code = int(found[2] or "5f", 16)
    is_one = code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF  # noqa: PLR2004  # of Unicode
    return chr(code) if is_one else found[0]

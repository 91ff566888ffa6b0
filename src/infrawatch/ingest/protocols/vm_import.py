"""POST /api/v1/import: the JSON lines that VictoriaMetrics exports, for migration.

Source: VictoriaMetrics, "How to import data in JSON line format", and `lib/protoparser/vmimport`.

Each line is one series, with times in milliseconds:
`{"metric":{"__name__":"up","job":"node"},"values":[1,0],"timestamps":[1790000000000,…]}`.
`null` is a stale marker: VictoriaMetrics never stores any other NaN.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Annotated, Literal, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field, StrictStr, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import TypedDict

from infrawatch.access.needs import MayWrite
from infrawatch.errors import BatchTooLarge
from infrawatch.ingest.bodies import read_body
from infrawatch.ingest.decoded import MS_NS, Decoded
from infrawatch.ingest.decoding.names import Flaw, to_series_name
from infrawatch.ingest.intake import WriteOptions
from infrawatch.ingest.protocols import plain_text
from infrawatch.ingest.protocols.extra_labels import ExtraLabels, read_extra_labels
from infrawatch.ingest.routing import foreign_route, intake_of
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.schemas import Time, Value
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.model.samples import STALE_NAN_BITS, Float64s
from infrawatch.model.selector import METRIC_LABEL

FORMAT = "vm_import"

_MAX_LINES = 100_000
_MAX_SAMPLES = 1_000_000
"""The backlog of samples that may wait for a commit; larger exports have to be split anyway."""

_OFF_LOOP_BYTES = 8 * 1024
"""Reading this much takes half a millisecond, or 15 with two bytes per line."""

_Special = Literal["Infinity", "-Infinity", "Inf", "-Inf", "inf", "-inf", "NaN", "nan"]
_Value = Annotated[Value | _Special | None, Field(union_mode="left_to_right")]


class _Line(TypedDict):
    metric: dict[StrictStr, StrictStr]
    values: Annotated[list[_Value], Field(min_length=1)]
    timestamps: list[Time]


_LINE = TypeAdapter(_Line)

_CODES = {"json_invalid": "malformed_json", "missing": "missing_field", "too_short": "empty"}
"""Pydantic's error types → codes of the API; any other is `wrong_type`."""

router = APIRouter(route_class=foreign_route(plain_text.failed), tags=["ingest"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One series a line."},
                "examples": {"series": {"$ref": "#/components/examples/Exported"}},
            }
        },
    }
}


@router.post(
    "/api/v1/import",
    status_code=204,
    response_class=Response,
    responses={**plain_text.RESPONSES, 422: {"description": "A parameter is invalid."}},
    openapi_extra=_BODY,
)
async def import_lines(
    request: Request,
    principal: MayWrite,
    extra_label: ExtraLabels = (),
) -> Response:
    """Store the output of VictoriaMetrics' `/api/v1/export`, with any Content-Type.

    Valid lines are stored even if others are refused; retrying is always safe.
    """
    body = await read_body(request, max_bytes=request.state.max_body_bytes)
    labels = read_extra_labels(extra_label)
    intake = intake_of(request)
    read = partial(decode, extra_labels=labels)
    decoded = await intake.offload.read(principal.tenant_id, read, body)
    return plain_text.stored([await intake.take(decoded, principal, FORMAT, WriteOptions())])


class _Series(NamedTuple):
    """One line; lines are numbered from 1."""

    line: int
    metric: Mapping[str, str]
    values: Sequence[float | str | None]
    times_ms: Sequence[int]

    def to_name(self) -> SeriesName | Flaw:
        if METRIC_LABEL not in self.metric:
            return Flaw("invalid_metric", f"/metric has no {METRIC_LABEL}, the metric's own name")
        labels = dict(self.metric)
        return to_series_name(labels.pop(METRIC_LABEL, ""), labels.items())


def decode(body: bytes, extra_labels: Mapping[str, str], *, on_loop: bool = False) -> Decoded:
    """Read one series per line, and add the extra labels to each; empty lines are skipped.

    Raises:
        BatchTooLarge: more than 100,000 lines or a million samples.
        BlocksLoop: on the loop only, if it would take too long.
    """
    check_budget(on_loop=on_loop, is_long=len(body) > _OFF_LOOP_BYTES)
    verdicts = Verdicts()
    lines = body.split(b"\n", _MAX_LINES)
    read = (_read(line, number, verdicts) for number, line in enumerate(lines, 1) if line.strip())
    series = [one._replace(metric={**one.metric, **extra_labels}) for one in read if one]
    counts = np.array([len(one.values) for one in series], np.intp)
    if len(lines) > _MAX_LINES or counts.sum() > _MAX_SAMPLES:
        raise BatchTooLarge(
            f"a body holds at most {_MAX_LINES} lines and {_MAX_SAMPLES} samples: send it in "
            "parts, as `split -l 1000` makes them"
        )

    def name_of(number: int) -> SeriesName | list[Verdict]:
        one = series[number]
        name = one.to_name()
        if isinstance(name, SeriesName):
            return name
        return [Verdict(one.line, f"line {one.line}", *name, len(one.values))]

    def locate(number: int, sample: int) -> tuple[int, str]:
        line = series[number].line
        return line, f"line {line}, /timestamps/{sample}"

    return Decoded(
        keys=[to_json(one.metric) for one in series],
        name_of=name_of,
        locate=locate,
        counts=counts,
        times=np.array(list(chain.from_iterable(one.times_ms for one in series)), np.int64),
        values=_to_column(list(chain.from_iterable(one.values for one in series))),
        unit_ns=MS_NS,
        verdicts=verdicts,
    )


def _read(line: bytes, number: int, verdicts: Verdicts) -> _Series | None:
    try:
        read = _LINE.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ", " + "".join(f"/{part}" for part in first["loc"][:2]) if first["loc"] else ""
        code = _CODES.get(first["type"], "wrong_type")
        verdicts.add(Verdict(number, f"line {number}{where}", code, first["msg"]))
        return None
    values, times_ms = read["values"], read["timestamps"]
    if len(values) == len(times_ms):
        return _Series(number, read["metric"], values, times_ms)
    detail = f"{len(values)} values cannot have {len(times_ms)} timestamps"
    verdicts.add(Verdict(number, f"line {number}", "length_mismatch", detail, len(values)))
    return None


def _to_column(values: Sequence[float | str | None]) -> Float64s:
    column = np.array(values, np.float64)
    if None in values:
        column.view(np.int64)[[value is None for value in values]] = STALE_NAN_BITS
    return column

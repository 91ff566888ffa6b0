"""POST /v1/collectd: JSON as sent by collectd's write_http plugin.

Source: collectd, `write_http` with `Format "JSON"`; names and labels are those that the collectd
receiver of the OpenTelemetry Collector creates.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, NotRequired

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import StrictStr, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from infrawatch.access.needs import MayWrite
from infrawatch.errors import MalformedBody, UnsupportedContent
from infrawatch.ingest.bodies import media_type_of, read_body
from infrawatch.ingest.decoded import MS_NS, Decoded
from infrawatch.ingest.decoding.json_errors import malformed
from infrawatch.ingest.decoding.names import Flaw, to_series_name
from infrawatch.ingest.intake import WriteOptions
from infrawatch.ingest.protocols import plain_text
from infrawatch.ingest.routing import foreign_route, intake_of
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.schemas import Value
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

FORMAT = "collectd"

_MS_PER_S = 1_000
_MAX_TIME_S = 2**53

_OFF_LOOP_BYTES = 8 * 1024
"""By default collectd sends 4 KiB at a time. Larger bodies are read in a thread: two bytes may be a
record, and reporting errors in that many takes 20 ms."""

_SourceType = Literal["gauge", "counter", "derive", "absolute"]


class _Record(TypedDict):
    """The values that a plugin read at one time; `null` is a value that collectd did not obtain."""

    values: list[Value | None]
    dstypes: list[_SourceType]
    dsnames: list[StrictStr]
    time: Value
    host: StrictStr
    plugin: StrictStr
    plugin_instance: NotRequired[StrictStr]
    type: StrictStr
    type_instance: NotRequired[StrictStr]


_RECORD = TypeAdapter(_Record)

_METADATA: Mapping[str, Metadata] = {
    "gauge": Metadata("gauge"),
    "counter": Metadata("counter"),
    "derive": Metadata("counter"),
    "absolute": Metadata("counter", temporality="delta"),  # counts since the previous record
}

_CODES = {
    "missing": "missing_field",
    "finite_number": "not_finite",
    "literal_error": "unknown_value",
}
"""Pydantic's error types → codes of the API; any other is `wrong_type`."""

_WITH_LABELS = re.compile(r"([^\[]*)\[([^\]]*)\](.*)", re.DOTALL)
"""A name with labels in it: `disk[rack=7,row=b]-sda` is `disk-sda` with `rack="7"`, `row="b"`."""

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": {"type": "object"}},
                "examples": {"records": {"$ref": "#/components/examples/Records"}},
            }
        },
    }
}

router = APIRouter(route_class=foreign_route(plain_text.failed), tags=["ingest"])


@router.post(
    "/v1/collectd",
    status_code=204,
    response_class=Response,
    responses=plain_text.RESPONSES,
    openapi_extra=_BODY,
)
async def write_collectd(request: Request, principal: MayWrite) -> Response:
    """Store records sent by collectd's `write_http` plugin with `Format "JSON"`.

    The metric is `type`, `type_instance` and, if a record has several data sources, the name of the
    data source, joined by dots: `{"disk_octets.read", host="web-1", plugin="disk"}`. Valid records
    are stored even if others are not, because collectd never retries. Notifications are ignored.
    """
    media_type = media_type_of(request)
    if media_type != "application/json":
        raise UnsupportedContent(
            f"Content-Type {media_type[:50]!r} is not read here: write_http sends "
            'application/json with Format "JSON"'
        )
    body = await read_body(request, max_bytes=request.state.max_body_bytes)
    intake = intake_of(request)
    decoded = await intake.offload.read(principal.tenant_id, decode, body)
    return plain_text.stored([await intake.take(decoded, principal, FORMAT, WriteOptions())])


class _Place(NamedTuple):
    """The position of a sample: value `number` of record `record_number`, both from 0."""

    record: _Record
    record_number: int
    number: int

    def to_key(self) -> bytes:
        """Everything that the series name is derived from."""
        record, dsnames = self.record, self.record["dsnames"]
        instances = record.get("plugin_instance"), record.get("type_instance")
        names = record["host"], record["plugin"], record["type"], *instances
        return to_json((*names, dsnames[self.number], len(dsnames)))

    def to_name(self) -> SeriesName | Flaw:
        record, dsname = self.record, self.record["dsnames"][self.number]
        is_only_one = len(record["dsnames"]) == 1
        labels: dict[str, str] = {}
        type_instance = _without_labels(record.get("type_instance", ""), labels)
        plugin_instance = _without_labels(record.get("plugin_instance", ""), labels)
        host = _without_labels(record["host"], labels)
        labels |= {"plugin": record["plugin"], "plugin_instance": plugin_instance, "host": host}
        if is_only_one:
            labels["dsname"] = dsname
        parts = (record["type"], type_instance, "" if is_only_one else dsname)
        return to_series_name(".".join(filter(None, parts)), labels.items())

    @property
    def pointer(self) -> str:
        return f"/{self.record_number}/values/{self.number}"


def decode(body: bytes, *, on_loop: bool = False) -> Decoded:
    """Read an array of records; the index of a verdict is that of its record, from 0.

    Raises:
        MalformedBody: the body is not a JSON array.
        BlocksLoop: on the loop only, if it would take too long.
    """
    check_budget(on_loop=on_loop, is_long=len(body) > _OFF_LOOP_BYTES)
    try:
        document = from_json(body)
    except ValueError as error:
        raise malformed(body, error) from None
    if not isinstance(document, list):
        raise MalformedBody("the body must be an array of records, as collectd's write_http sends")
    verdicts = Verdicts()
    places = [place for index, one in enumerate(document) for place in _read(one, index, verdicts)]
    return _to_decoded(places, verdicts)


def _read(one: Any, index: int, verdicts: Verdicts) -> list[_Place]:
    """Return the values of a record that are not null."""
    if isinstance(one, dict) and "severity" in one and "message" in one:
        return []
    try:
        record = _RECORD.validate_python(one)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        pointer = "".join(f"/{part}" for part in (index, *first["loc"]))
        code = _CODES.get(first["type"], "wrong_type")
        verdicts.add(Verdict(index, pointer, code, first["msg"], _count_values(one)))
        return []
    lengths = {len(record["values"]), len(record["dsnames"]), len(record["dstypes"])}
    if len(lengths) > 1:
        detail = "values, dsnames and dstypes must be of one length"
        verdicts.add(Verdict(index, f"/{index}", "length_mismatch", detail, max(lengths)))
        return []
    if abs(record["time"]) > _MAX_TIME_S:
        detail = "the time is in seconds since 1970"
        verdicts.add(Verdict(index, f"/{index}/time", "out_of_range", detail, max(lengths)))
        return []
    return [
        _Place(record, index, n) for n, value in enumerate(record["values"]) if value is not None
    ]


def _count_values(one: Any) -> int:
    values = one.get("values") if isinstance(one, dict) else None
    return len(values) if isinstance(values, list) else 1


def _without_labels(text: str, labels: dict[str, str]) -> str:
    """Strip the labels from a name, and add those that are not in `labels` yet."""
    found = _WITH_LABELS.fullmatch(text)
    pairs = [pair.split("=") for pair in found[2].split(",")] if found else []
    if found is None or not all(len(pair) == 2 and pair[0] for pair in pairs):  # noqa: PLR2004
        return text
    for name, value in pairs:
        labels.setdefault(name, value)
    return found[1] + found[3]


def _to_decoded(places: list[_Place], verdicts: Verdicts) -> Decoded:
    metadata: dict[str, Metadata] = {}

    def name_of(number: int) -> SeriesName | list[Verdict]:
        place = places[number]
        name = place.to_name()
        if isinstance(name, SeriesName):
            metadata[name.metric] = _METADATA[place.record["dstypes"][place.number]]
            return name
        return [Verdict(place.record_number, place.pointer, name.code, name.detail)]

    def locate(number: int, _sample: int) -> tuple[int, str]:
        record_number = places[number].record_number
        return record_number, f"/{record_number}/time"

    return Decoded(
        keys=[place.to_key() for place in places],
        name_of=name_of,
        locate=locate,
        counts=np.ones(len(places), np.intp),
        times=np.array([round(place.record["time"] * _MS_PER_S) for place in places], np.int64),
        values=np.array([place.record["values"][place.number] for place in places], np.float64),
        unit_ns=MS_NS,
        metadata=metadata,
        verdicts=verdicts,
    )

"""POST /v1/collectd: JSON as collectd's plugin write_http sends it.

Source: collectd, `write_http` with `Format "JSON"`; names and labels are those that the collectd
receiver of the OpenTelemetry Collector makes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import AllowInfNan, StrictFloat, StrictStr, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import NotRequired, TypedDict

from infrawatch.access.principal import CurrentPrincipal
from infrawatch.errors import MalformedBody
from infrawatch.ingest.bodies import read_body
from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.endpoint import TheIntake, answering_with, decode_apart
from infrawatch.ingest.intake import Wishes
from infrawatch.ingest.names import Flaw, to_series_name
from infrawatch.ingest.protocols import plain_text
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

FORMAT = "collectd"

_MS_NS = 1_000_000
_MS_PER_S = 1_000
_MAX_TIME_S = 2**53

_OFF_LOOP_BYTES = 256 * 1024
"""collectd sends 4 KiB at a time unless told otherwise; more than this is read in a thread."""

_Number = Annotated[StrictFloat, AllowInfNan(allow_inf_nan=False)]
_SourceType = Literal["gauge", "counter", "derive", "absolute"]


class _Record(TypedDict):
    """What one plugin read at a time; `null` is a value that collectd did not get."""

    values: list[_Number | None]
    dstypes: list[_SourceType]
    dsnames: list[StrictStr]
    time: _Number
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
    "absolute": Metadata("counter", temporality="delta"),  # what was counted since the last time
}

_CODES = {"missing": "missing_field", "finite_number": "not_finite", "literal_error": "unknown_value"}
"""Pydantic's names of errors → ours; any other is `wrong_type`."""

_WITH_LABELS = re.compile(r"([^\[]*)\[([^\]]*)\](.*)", re.DOTALL)

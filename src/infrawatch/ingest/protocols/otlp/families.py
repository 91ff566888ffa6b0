"""A metric of a request: its location, and the names and keys of its series."""

import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from infrawatch.errors import BatchTooLarge
from infrawatch.ingest.decoding.names import Flaw, to_series_name
from infrawatch.ingest.protocols.otlp.attributes import joined, to_entries
from infrawatch.ingest.protocols.otlp.names import Kind, metric_name, unit_name
from infrawatch.ingest.protocols.otlp.resources import read_resource, read_scope
from infrawatch.ingest.protocols.otlp.wire import Message, decode_attributes
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

DIGEST_BYTES = 16
"""As many as identify a series' name in the store; collisions are infeasible to find."""

MAX_SAMPLES = 1_000_000
"""The default backlog of samples that may wait for a commit; a request usually has hundreds."""

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA

_TEMPORALITIES: dict[int, str] = {CUMULATIVE: "cumulative", DELTA: "delta"}

_LENGTHS = struct.Struct("<II")
_HEAD = struct.Struct("<IIq")

_MAX_NAME_BYTES = 1_024
_MAX_TEXT_CHARACTERS = 1_024
"""Limit for units and descriptions, as in the native format."""

_FIELDS = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "exponential_histogram": "exponentialHistogram",
    "summary": "summary",
}
"""The fields of a `Metric` that hold data points, and their names in JSON."""

_HAS_TEMPORALITY, _IS_MONOTONIC = 0x40, 0x80
_KINDS = {
    "gauge": 0,
    "sum": 1 | _HAS_TEMPORALITY,
    "histogram": 2 | _HAS_TEMPORALITY,
    "exponential_histogram": 3 | _HAS_TEMPORALITY,
    "summary": 4,
}


class Scope(NamedTuple):
    """One `ScopeMetrics`: its JSON pointer, and the parts that all of its metrics share."""

    pointer: str
    resource: bytes
    scope: bytes
    schema_url: bytes
    digest: bytes

    @classmethod
    def of(cls, pointer: str, resource: bytes, scope_metrics: Message) -> "Scope":
        scope, schema_url = scope_metrics.scope, scope_metrics.schema_url
        lengths = _LENGTHS.pack(len(resource), len(scope))
        mark = digest(lengths, resource, scope, schema_url)
        return cls(pointer, resource, scope, schema_url, mark)

    def key_of(self, metric: Message, field: str, data: Message) -> bytes:
        """The beginning of the keys of a metric's series: everything but the attributes.

        The description is not included: a new one is stored with the metric's next new series.
        """
        name: bytes = metric.name
        unit: bytes = metric.unit
        kind = _KINDS[field]
        if kind & _HAS_TEMPORALITY:
            kind |= data.aggregation_temporality << 8
            if field == "sum" and data.is_monotonic:
                kind |= _IS_MONOTONIC
        return self.digest + _HEAD.pack(len(name), len(unit), kind) + name + unit


@dataclass(frozen=True, slots=True)
class Family:
    """One `Metric` and its location; `field` is the field that holds its data points."""

    scope: Scope
    place: int
    metric: Message
    field: str

    @property
    def kind(self) -> Kind:
        """The kind, which determines the suffix of the name."""
        if self.field == "sum" and self.metric.sum.is_monotonic:
            return "counter"
        return "gauge" if self.field == "gauge" else "other"

    def locator(self, point: int) -> str:
        """Describe the location of a data point: the metric's original name and a JSON pointer."""
        name = _text(self.metric.name)[:200]
        field = _FIELDS[self.field]
        return f"{name!r} at {self.scope.pointer}/metrics/{self.place}/{field}/dataPoints/{point}"

    def to_metadata(self) -> Metadata:
        """Return the metadata, which is the same for each of the resulting metrics."""
        number = "counter" if self.kind == "counter" else "gauge"
        return Metadata(
            type={"sum": number, "exponential_histogram": "histogram"}.get(self.field, self.field),
            unit=unit_name(_text(self.metric.unit))[:_MAX_TEXT_CHARACTERS],
            help=_text(self.metric.description).replace("\0", "")[:_MAX_TEXT_CHARACTERS],
            temporality=_TEMPORALITIES[temporality_of(self.metric, self.field)],
        )

    def to_name(self, attributes: bytes, part: "Part") -> SeriesName | Flaw:
        """Name a series, given its encoded attributes and its part of a data point."""
        labels = self._to_labels(attributes)
        if isinstance(labels, Flaw):
            return labels
        if len(self.metric.name) + len(self.metric.unit) > _MAX_NAME_BYTES:
            return Flaw("too_long", "the metric's name and unit are too long for a name")
        name = metric_name(_text(self.metric.name), _text(self.metric.unit), self.kind)
        if not name:
            return Flaw("invalid_metric", "no letter or digit is left of the metric's name")
        return to_series_name(name + part.suffix, [*labels, *part.labels])

    def _to_labels(self, attributes: bytes) -> list[tuple[str, str]] | Flaw:
        origin = read_resource(self.scope.resource)
        if isinstance(origin, Flaw):
            return origin
        scope = read_scope(self.scope.scope, self.scope.schema_url)
        if isinstance(scope, Flaw):
            return scope
        try:
            own = to_entries(decode_attributes(attributes))
        except DecodeError:
            return Flaw("invalid_label_value", "an attribute is not UTF-8, or no KeyValue at all")
        return own if isinstance(own, Flaw) else joined([*origin.entries, *scope, *own])


class Part(NamedTuple):
    """What distinguishes the series of a data point: `_bucket` and its `le`, `_sum`, `_count`."""

    suffix: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def temporality_of(metric: Message, field: str) -> int:
    """The temporality of a metric; kinds without one count as cumulative."""
    if not _KINDS[field] & _HAS_TEMPORALITY:
        return CUMULATIVE
    temporality: int = getattr(metric, field).aggregation_temporality
    return temporality


def find_flaw(metric: Message, field: str) -> Flaw | None:
    """Find a flaw that affects all data points of a metric."""
    temporality = temporality_of(metric, field)
    if temporality in _TEMPORALITIES:
        return None
    return Flaw(
        "unknown_value",
        f"aggregationTemporality is {temporality}, must be 1 (delta) or 2 (cumulative)",
    )


def digest(*parts: bytes) -> bytes:
    """A 128-bit digest of the concatenated bytes, for use in keys of series."""
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


def _text(encoded: bytes) -> str:
    """Decode leniently: names are translated anyway, and descriptions are only read by people."""
    return encoded.decode(errors="replace")


def too_large() -> BatchTooLarge:
    return BatchTooLarge(
        f"a request holds at most {MAX_SAMPLES} samples (a histogram has one a bucket): send "
        "smaller batches (send_batch_max_size in the Collector)"
    )

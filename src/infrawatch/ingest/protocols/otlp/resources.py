"""The origin of metrics: resource and scope as labels, and the resource's own `target_info`.

Source: OpenTelemetry, "Prometheus and OpenMetrics Compatibility", Resource Attributes and
Instrumentation Scope.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from infrawatch.ingest.decoding.names import (
    MAX_NAME_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    Flaw,
    to_series_name,
)
from infrawatch.ingest.protocols.otlp.attributes import (
    MAX_ATTRIBUTES,
    Entry,
    joined,
    to_entries,
    to_text,
)
from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.model.labels import SeriesName

TARGET_INFO = "target_info"

_IDENTIFYING = ("service.namespace", "service.name", "service.instance.id")
_IDENTITY = ("job", "instance")
_SCOPE_LABELS = ("otel_scope_name", "otel_scope_version", "otel_scope_schema_url")

_REMEMBERED = 1_024
_REMEMBERED_BYTES = 16 * 1024
"""Together at most 16 MiB per cache; a typical resource has one or two kilobytes."""

_WARNING_CHARACTERS = 1_000
_LEFT_OUT = (
    f"target_info leaves out resource attributes (a label's value has at most "
    f"{MAX_VALUE_CHARACTERS} characters, its name {MAX_NAME_CHARACTERS}, a series {MAX_LABELS} "
    "labels, and job and instance are taken):"
)
_ANONYMOUS = (
    "a resource has neither service.name nor service.instance.id, so its attributes are stored "
    "nowhere and its series cannot be told from those of others: set OTEL_SERVICE_NAME"
)


class Origin(NamedTuple):
    """The labels that a resource adds to all of its series, and its own series.

    `warning` names the attributes that are not stored; empty if all of them are.
    """

    entries: Sequence[Entry]
    target_info: SeriesName | None = None
    warning: str = ""


def read_resource(encoded: bytes) -> Origin | Flaw:
    """Read a serialised `Resource`."""
    read = _read_resource if len(encoded) <= _REMEMBERED_BYTES else _read_resource.__wrapped__
    return read(encoded)


def read_scope(encoded: bytes, schema_url: bytes) -> Sequence[Entry] | Flaw:
    """Read the labels of a serialised `InstrumentationScope`."""
    is_small = len(encoded) + len(schema_url) <= _REMEMBERED_BYTES
    read = _read_scope if is_small else _read_scope.__wrapped__
    return read(encoded, schema_url)


@lru_cache(_REMEMBERED)
def _read_resource(encoded: bytes) -> Origin | Flaw:
    try:
        attributes = Resource.FromString(encoded).attributes
    except DecodeError:
        return Flaw("invalid_label_value", "the resource's attributes are not UTF-8")
    texts = {
        attribute.key: to_text(attribute.value)
        for attribute in attributes
        if attribute.key in _IDENTIFYING
    }
    namespace, name, instance = (texts.get(key, "") for key in _IDENTIFYING)
    entries = [
        Entry("service.name", "job", f"{namespace}/{name}" if namespace and name else name),
        Entry("service.instance.id", "instance", instance),
    ]
    described = [attribute for attribute in attributes if attribute.key not in _IDENTIFYING]
    return Origin(entries, *_describe(entries, described))


def _describe(identity: list[Entry], attributes: list[KeyValue]) -> tuple[SeriesName | None, str]:
    """Create `target_info` as Prometheus does: only with an identity and further attributes."""
    own = [(entry.label, entry.value) for entry in identity if entry.value]
    labels, left_out = _fitting(attributes)
    if not own and attributes:
        return None, _ANONYMOUS
    name = to_series_name(TARGET_INFO, own + labels) if labels else None
    keys = ", ".join(key[:MAX_NAME_CHARACTERS] for key in sorted(left_out))
    warning = f"{_LEFT_OUT} {keys[:_WARNING_CHARACTERS]}" if keys else ""
    return name if isinstance(name, SeriesName) else None, warning


def _fitting(attributes: list[KeyValue]) -> tuple[list[tuple[str, str]], list[str]]:
    """Select the labels that fit `target_info`; also return the keys of attributes that do not."""
    left_out = [attribute.key for attribute in attributes[MAX_ATTRIBUTES:]]
    entries: list[Entry] = []
    for attribute in attributes[:MAX_ATTRIBUTES]:
        read = to_entries([attribute])
        if isinstance(read, Flaw) or read[0].label in _IDENTITY:
            left_out.append(attribute.key)
        else:
            entries += read
    labels: dict[str, str] = {}
    for label, value in joined(entries):
        is_good = isinstance(to_series_name(TARGET_INFO, [(label, value)]), SeriesName)
        if is_good and len(labels) < MAX_LABELS - len(_IDENTITY):
            labels[label] = value
    left_out += [entry.key for entry in entries if entry.value and entry.label not in labels]
    return list(labels.items()), left_out


@lru_cache(_REMEMBERED)
def _read_scope(encoded: bytes, schema_url: bytes) -> Sequence[Entry] | Flaw:
    try:
        scope = InstrumentationScope.FromString(encoded)
    except DecodeError:
        return Flaw("invalid_label_value", "the scope is not UTF-8")
    values = (scope.name, scope.version, schema_url.decode(errors="replace"))
    own = [Entry(label, label, value) for label, value in zip(_SCOPE_LABELS, values, strict=True)]
    entries = to_entries(scope.attributes, prefix="otel_scope_")
    if isinstance(entries, Flaw):
        return entries
    # The specification says of attributes with a conflicting name that they "MUST be dropped".
    return own + [entry for entry in entries if entry.label not in _SCOPE_LABELS]

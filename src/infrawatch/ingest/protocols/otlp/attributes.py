"""Conversion of attributes to labels: keys to label names, values of every kind to text."""

import json
import math
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from infrawatch.ingest.decoding.names import MAX_NAME_CHARACTERS, Flaw
from infrawatch.ingest.protocols.otlp.names import label_name
from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.model.selector import METRIC_LABEL

MAX_ATTRIBUTES = 1_000
"""More than can become labels; beyond it, attributes are not even checked for collisions."""

_MAX_ATTRIBUTE_BYTES = 64 * 1024
"""More than any value that fits into a label; larger values are not even converted to text."""


class Entry(NamedTuple):
    """A candidate label and its original key, which determines the order of equal label names."""

    key: str
    label: str
    value: str


def to_entries(attributes: Sequence[KeyValue], *, prefix: str = "") -> list[Entry] | Flaw:
    """Convert each attribute to a label, or return the flaw of the first invalid one."""
    if len(attributes) > MAX_ATTRIBUTES:
        return Flaw("too_many_labels", f"at most {MAX_LABELS} labels")
    entries: list[Entry] = []
    for attribute in attributes:
        key = prefix + attribute.key
        if len(key) > MAX_NAME_CHARACTERS or attribute.ByteSize() > _MAX_ATTRIBUTE_BYTES:
            return Flaw("too_long", f"attribute {key[:100]!r} is too long for a label")
        label = label_name(key)
        if label is None or label == METRIC_LABEL:
            return Flaw("invalid_label_name", f"no label can be called {key[:100]!r}")
        entries.append(Entry(key, label, to_text(attribute.value)))
    return entries


def joined(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Merge labels of the same name: their values are joined by `;`, in the order of their keys.

    Source: "Prometheus and OpenMetrics Compatibility", Metric Attributes.
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for _, label, value in sorted(entries):
        if value:
            values[label].append(value)
    return [(label, ";".join(parts)) for label, parts in values.items()]


def to_text(value: AnyValue) -> str:
    """Convert a value to text: strings as they are, bytes as base64, everything else as JSON.

    Source: OpenTelemetry, "Common specification concepts", AnyValue representation for non-OTLP
    protocols.
    """
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bytes_value":
            return b64encode(value.bytes_value).decode()
        case "double_value":
            return _to_number(value.double_value)
        case "bool_value" | "int_value" | "array_value" | "kvlist_value":
            return _to_json(value)
        case _:  # no value, or a kind used only by profiles
            return ""


def _to_json(value: AnyValue) -> str:
    """Convert to JSON without spaces and with sorted keys, so that equal values are equal text."""
    match value.WhichOneof("value"):
        case "bool_value":
            text = "true" if value.bool_value else "false"
        case "int_value":
            text = str(value.int_value)
        case "double_value" if math.isfinite(value.double_value):
            text = _to_number(value.double_value)
        case "array_value":
            text = f"[{','.join(map(_to_json, value.array_value.values))}]"
        case "kvlist_value":
            members = {member.key: _to_json(member.value) for member in value.kvlist_value.values}
            text = f"{{{','.join(f'{_quoted(key)}:{members[key]}' for key in sorted(members))}}}"
        case "string_value" | "bytes_value" | "double_value":
            text = _quoted(to_text(value))
        case _:
            text = "null"
    return text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _to_number(number: float) -> str:
    """The shortest text that round-trips, as written by ECMAScript and Go's JSON."""
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    if number == 0 or 1e-6 <= abs(number) < 1e21:  # noqa: PLR2004  # where exponents begin
        return np.format_float_positional(number, trim="-")
    mantissa, _, exponent = repr(number).partition("e")
    return f"{mantissa}e{int(exponent):+d}"

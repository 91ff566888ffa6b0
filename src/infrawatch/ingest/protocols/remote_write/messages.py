"""The messages of remote write, declared for cheap parsing.

Sources: Prometheus, `prompb/remote.proto` and `prompb/types.proto` (1.0), and
`prompb/io/prometheus/write/v2/types.proto` (2.0).

On the wire a message consists only of numbers, lengths and bytes. So fields that need not be parsed
are declared as `bytes`: a request with a thousand series is parsed in 0.01 ms as long as its series
stay bytes. Text is `bytes` as well, so that a label that is not UTF-8 does not make a whole request
unreadable. A `double` that may be a stale marker is `fixed64`, so that the payload of a NaN never
passes through a floating-point register.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "infrawatch.remote_write"

_MANY_BYTES = 64 * 1024
_MAX_FIELDS = 100_000
"""Parsed, a field can be a hundred times as large as on the wire."""

_HISTOGRAM = {
    "count_int": "1 uint64",
    "count_float": "2 double",
    "sum": "3 fixed64",
    "schema": "4 sint32",
    "zero_threshold": "5 double",
    "zero_count_int": "6 uint64",
    "zero_count_float": "7 double",
    "negative_spans": "8 BucketSpan*",
    "negative_deltas": "9 sint64*",
    "negative_counts": "10 double*",
    "positive_spans": "11 BucketSpan*",
    "positive_deltas": "12 sint64*",
    "positive_counts": "13 double*",
    "timestamp": "15 int64",
    "custom_values": "16 double*",
}

_MESSAGES: Mapping[str, Mapping[str, str]] = {
    "WriteRequest": {"timeseries": "1 bytes*", "metadata": "3 bytes*"},
    "Series1": {
        "labels": "1 Label*",
        "samples": "2 Sample*",
        "exemplars": "3 bytes*",
        "histograms": "4 bytes*",
    },
    "Labels": {"labels": "1 bytes*"},
    "MetricMetadata": {
        "type": "1 int32",
        "metric": "2 bytes",
        "help": "4 bytes",
        "unit": "5 bytes",
    },
    "Request": {"symbols": "4 bytes*", "timeseries": "5 bytes*"},
    "Series2": {
        "labels_refs": "1 uint32*",
        "samples": "2 Sample*",
        "histograms": "3 bytes*",
        "exemplars": "4 bytes*",
        "metadata": "5 bytes",
    },
    "Metadata": {"type": "1 int32", "help_ref": "3 uint32", "unit_ref": "4 uint32"},
    "Label": {"name": "1 bytes", "value": "2 bytes"},
    "Sample": {"value": "1 fixed64", "timestamp": "2 int64"},
    "Histogram": _HISTOGRAM,
    "Shape": {"first": "1 bytes*", "second": "2 bytes*", "third": "3 bytes*", "fourth": "4 bytes*"},
    "BucketSpan": {"offset": "1 sint32", "length": "2 uint32"},
}
"""Field → number and type; `*` marks repeated fields.

Omitted, and therefore skipped on arrival: start timestamps, which nothing uses yet, and a
histogram's reset hint.
"""


def parse(kind: type[Message], encoded: bytes) -> Any:
    """Read a message.

    Raises:
        ValueError: the bytes are not such a message.
    """
    try:
        return kind.FromString(encoded)
    except DecodeError as error:
        raise ValueError(str(error)) from None


def parse_series(kind: type[Message], encoded: bytes) -> Any:
    """Read a series, of version 1 or 2.

    Raises:
        ValueError: the bytes are not a series, or have more fields than any real one.
    """
    if len(encoded) > _MANY_BYTES:
        shape = parse(_SHAPE, encoded)
        if sum(map(len, (shape.first, shape.second, shape.third, shape.fourth))) > _MAX_FIELDS:
            raise ValueError(f"it has more than {_MAX_FIELDS} fields")
    return parse(kind, encoded)


def _declared() -> dict[str, type[Message]]:
    # proto2, because its field presence tells which alternative of a histogram's count was sent.
    file = FileDescriptorProto(
        name="infrawatch/remote_write.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, said in fields.items():
            message.field.append(_field(field, said))
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def _field(name: str, said: str) -> FieldDescriptorProto:
    number, kind = said.split()
    scalar = kind.rstrip("*")
    is_message = scalar in _MESSAGES
    return FieldDescriptorProto(
        name=name,
        number=int(number),
        label=(
            FieldDescriptorProto.LABEL_REPEATED
            if kind.endswith("*")
            else FieldDescriptorProto.LABEL_OPTIONAL
        ),
        type=FieldDescriptorProto.Type.Value(
            "TYPE_MESSAGE" if is_message else f"TYPE_{scalar.upper()}"
        ),
        type_name=f".{_PACKAGE}.{scalar}" if is_message else None,
    )


_CLASSES = _declared()
WRITE_REQUEST = _CLASSES["WriteRequest"]
SERIES_1 = _CLASSES["Series1"]
LABELS = _CLASSES["Labels"]
LABEL = _CLASSES["Label"]
METRIC_METADATA = _CLASSES["MetricMetadata"]
REQUEST = _CLASSES["Request"]
SERIES_2 = _CLASSES["Series2"]
METADATA = _CLASSES["Metadata"]
HISTOGRAM = _CLASSES["Histogram"]
_SHAPE = _CLASSES["Shape"]

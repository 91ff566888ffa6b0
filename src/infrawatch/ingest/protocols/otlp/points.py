"""Shared by data points of all kinds."""

from google.protobuf.message import DecodeError

from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.otlp.wire import NO_RECORDED_VALUE, Message

_MAX_BYTES = 1024 * 1024
"""Enough for 64 labels of maximum length and thousands of buckets; bounds the memory used."""

_TOO_LONG = Flaw("too_long", f"a data point has at most {_MAX_BYTES} bytes")
_MALFORMED = Flaw("malformed_point", "the data point is not valid protobuf")
_NO_TIME = Flaw("missing_field", "timeUnixNano is missing or 0: every data point needs its time")


def parse_point(kind: Message, encoded: bytes) -> Message:
    """Read a data point; return a `Flaw` if it is invalid."""
    if len(encoded) > _MAX_BYTES:
        return _TOO_LONG
    try:
        point = kind.FromString(encoded)
    except DecodeError:
        return _MALFORMED
    return point if point.time_unix_nano else _NO_TIME


def is_stale(point: Message) -> bool:
    """Whether a point has a time but no value, because its series ended or is interrupted."""
    return bool(point.flags & NO_RECORDED_VALUE)

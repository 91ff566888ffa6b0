"""The grammar of line protocol, and the conversion of its names.

Source: influxdata/line-protocol, line-protocol.ebnf. A backslash is part of a name unless it
precedes, and thereby escapes, a comma, an equals sign or a space, so clients need not escape
backslashes. Control characters are accepted here and left to the naming rules of all formats.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from infrawatch.ingest.decoding.names import (
    Flaw,
    find_plain_labels,
    is_plain_metric,
    to_series_name,
)
from infrawatch.model.labels import Labels, SeriesName

# All quantifiers are possessive (`++`): no part of a line is ambiguous, so backtracking is never
# needed, and no line takes long to refuse.
MEASUREMENT = rb"(?![#\t])(?:[^\\, \n]++|\\++[^\\\n])++"
WORD = rb"(?:[^\\,= \n]++|\\++[^\\\n])++"
"""The key of a tag or a field, or the value of a tag."""

STRING = rb'"(?:[^"\\]++|\\.)*+"'
_DIGITS = rb"[0-9]++"
_NUMBER = (
    rb"-?(?:" + _DIGITS + rb"(?:[iu]|(?:\.[0-9]*+)?+(?:[eE][+-]?" + _DIGITS + rb")?+)"
    rb"|\." + _DIGITS + rb"(?:[eE][+-]?" + _DIGITS + rb")?+)"
)
_WORDS = rb"[tT](?:rue)?+|[fF](?:alse)?+|TRUE|FALSE|(?i:[+-]?(?:nan|inf(?:inity)?+))"
VALUE = rb"(?:" + _NUMBER + rb"|" + STRING + rb"|" + _WORDS + rb")(?=[, \r\n]|\Z)"
"""The value of a field, including the spellings of NaN and infinity that the grammar lacks."""

TIMESTAMP = rb"-?" + _DIGITS
LINE_END = rb" *+\r?(?:\n|\Z)"

MAX_TIME = 9_223_372_036_854_775_806
"""The largest timestamp; the smallest is its negative (InfluxDB, line protocol reference)."""

_TAGS = rb"(?:," + WORD + rb"=" + WORD + rb")*+"
_FIELD = WORD + rb"=" + VALUE

LINE = re.compile(
    rb"[ \t]*+(" + MEASUREMENT + _TAGS + rb") ++"
    rb"(" + _FIELD + rb"(?:," + _FIELD + rb")*+)"
    rb"(?: ++(" + TIMESTAMP + rb"))?+" + LINE_END,
    re.DOTALL,
)
"""One line and its end; groups: measurement with tags, fields, timestamp."""

NO_LINES = re.compile(
    rb"(?:[ \t\r\n]*\n|[ \t]*+#[^\n]*+(?:\n|\Z)){1,1000}+|[ \t\r]*+\Z"  # takes a millisecond
)
"""Blank lines, any number at a time, and comments, up to a thousand."""

FIELDS = re.compile(rb"(" + WORD + rb")=(" + VALUE + rb")", re.DOTALL)
"""Each field of the second group of `LINE`; groups: key, value."""

KEY = re.compile(rb"(" + MEASUREMENT + rb")(" + _TAGS + rb") (" + WORD + rb")")
"""The key of a series: measurement, tags, one space, the key of a field."""

_TAG = re.compile(rb",(" + WORD + rb")=(" + WORD + rb")")
_ESCAPED = re.compile(r"\\([,= ])")
_ESCAPED_IN_MEASUREMENT = re.compile(r"\\([, ])")


Tags = Sequence[tuple[str, str]]

_SHARED = 4_096
_MAX_SHARED_BYTES = 256
"""Most series have the tags of others. So the last tags stay parsed if they are not larger than
this: about 10 MB at most."""


def to_name(key: bytes) -> SeriesName | Flaw:
    """Convert a match of `KEY` to a name: the metric is `measurement_field`, tags are labels."""
    try:
        if b"\\" not in key:
            return _to_plain_name(key)
        measurement, tags, field = split_escaped(key)
    except UnicodeDecodeError:
        return Flaw("malformed_line", "names and tags must be UTF-8")
    return to_series_name(f"{measurement}_{field}", tags)


def _to_plain_name(key: bytes) -> SeriesName | Flaw:
    """Convert a key without backslashes."""
    head, _, field = key.partition(b" ")
    measurement, _, tags = head.partition(b",")
    metric = f"{measurement.decode()}_{field.decode()}"
    labels = _find_labels(tags) if len(tags) <= _MAX_SHARED_BYTES else None
    if labels is not None and is_plain_metric(metric):
        return SeriesName(metric, labels)
    return to_series_name(metric, _split_tags(tags))


@lru_cache(_SHARED)
def _find_labels(tags: bytes) -> Labels | None:
    return find_plain_labels(_split_tags(tags))


def _split_tags(tags: bytes) -> Tags:
    words = tags.decode().replace("=", ",").split(",")
    return list(zip(words[::2], words[1::2], strict=False))  # no tags are one word


def split_escaped(key: bytes) -> tuple[str, Tags, str]:
    """Split any key into measurement, tags, and the key of a field."""
    parts = KEY.fullmatch(key)
    assert parts is not None, "keys are made of what was read"
    measurement = _ESCAPED_IN_MEASUREMENT.sub(r"\1", parts[1].decode())
    tags = [(_unescaped(name), _unescaped(value)) for name, value in _TAG.findall(parts[2])]
    return measurement, tags, _unescaped(parts[3])


def _unescaped(word: bytes) -> str:
    return _ESCAPED.sub(r"\1", word.decode())

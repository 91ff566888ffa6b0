"""The grammar of line protocol, and what its names mean here.

Source: influxdata/line-protocol, line-protocol.ebnf. A backslash belongs to a name unless a comma,
an equals sign or a space follows it (which it then hides), so clients need not escape backslashes.
Control characters are read and left to the rules for names that all formats share.
"""

import re

from infrawatch.ingest.names import Flaw, to_series_name
from infrawatch.model.labels import SeriesName

# Everything is possessive (`++`): no part of a line can be read in two ways, so there is never a
# reason to go back, and no line that takes long to refuse.
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
"""The value of a field, with what senders write for the numbers that the grammar leaves out."""

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
    rb"(?:[ \t\r\n]*\n|[ \t]*+#[^\n]*+(?:\n|\Z)){1,1000}+|[ \t\r]*+\Z"  # in a millisecond
)
"""Lines with nothing on them, and comments: any number of the one, a thousand of the other."""

FIELDS = re.compile(rb"(" + WORD + rb")=(" + VALUE + rb")", re.DOTALL)
"""Each field of the second group of `LINE`; groups: key, value."""

KEY = re.compile(rb"(" + MEASUREMENT + rb")(" + _TAGS + rb") (" + WORD + rb")")
"""What names a series: measurement, tags, one space, the key of a field."""

_TAG = re.compile(rb",(" + WORD + rb")=(" + WORD + rb")")
_ESCAPED = re.compile(r"\\([,= ])")
_ESCAPED_IN_MEASUREMENT = re.compile(r"\\([, ])")


def to_name(key: bytes) -> SeriesName | Flaw:
    """Make the name of a series: the metric is `measurement_field`, the tags are labels."""
    parts = KEY.fullmatch(key)
    assert parts is not None, "keys are made of what was read"
    unescaped = _unescaped if b"\\" in key else bytes.decode
    try:
        measurement = _ESCAPED_IN_MEASUREMENT.sub(r"\1", parts[1].decode())
        tags = [(unescaped(name), unescaped(value)) for name, value in _TAG.findall(parts[2])]
        return to_series_name(f"{measurement}_{unescaped(parts[3])}", tags)
    except UnicodeDecodeError:
        return Flaw("malformed_line", "names and tags must be UTF-8")


def _unescaped(word: bytes) -> str:
    return _ESCAPED.sub(r"\1", word.decode())

r"""The grammar of the text format, and the conversion of its names.

Source: Prometheus, "Exposition formats", text format; quoted names as of its version 1.0.0.
`\\`, `\"` and `\n` are the only escapes. Blanks are allowed everywhere except inside names.
"""

import re
from collections.abc import Mapping

from infrawatch.ingest.decoding.names import Flaw, to_series_name
from infrawatch.model.labels import SeriesName

# All quantifiers are possessive, so that no line takes long to refuse.
_GAP = rb"[ \t]*+"
_BARE = rb"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_QUOTED = rb'"(?:[^"\\]++|\\[\\"n])*+"'
_NAME = rb"(?:" + _BARE + rb"|" + _QUOTED + rb")"
_LABEL = _NAME + _GAP + rb"=" + _GAP + _QUOTED + _GAP
_LABELS = rb"(?:" + _LABEL + rb"(?:," + _GAP + _LABEL + rb")*+,?+" + _GAP + rb")?+"

SERIES = re.compile(
    rb"(" + _BARE + rb")(?:" + _GAP + rb"\{" + _GAP + rb"(" + _LABELS + rb")\}|(?=[ \t]|\Z))"
    rb"|\{" + _GAP + rb"(" + _QUOTED + rb")" + _GAP + rb"(?:," + _GAP + rb"(" + _LABELS + rb"))?+\}"
)
"""The series at the beginning of a line: `name{a="b"}` or `{"name",a="b"}`."""

COMMENT = re.compile(rb"#" + _GAP + rb"(TYPE|HELP|UNIT)[ \t]++(" + _NAME + rb")" + _GAP + rb"(.*+)")
"""A comment with metadata of a metric; groups: its kind, the metric, the text."""

_EACH_LABEL = re.compile(rb"(" + _NAME + rb")" + _GAP + rb"=" + _GAP + rb"(" + _QUOTED + rb")")
_ESCAPED = re.compile(r"\\(.)")


def to_name(key: bytes, extra_labels: Mapping[str, str]) -> SeriesName | Flaw:
    """Convert a series to its name; extra labels replace its labels of the same name."""
    parts = SERIES.fullmatch(key)
    assert parts is not None, "keys are made of what was read"
    bare, its_labels, quoted, labels = parts.groups()
    try:
        metric = _unquoted(bare or quoted)
        pairs = [
            (_unquoted(name), _unquoted(value))
            for name, value in _EACH_LABEL.findall(its_labels or labels or b"")
        ]
    except UnicodeDecodeError:
        return Flaw("malformed_line", "names and labels must be UTF-8")
    kept = [(name, value) for name, value in pairs if name not in extra_labels]
    return to_series_name(metric, [*kept, *extra_labels.items()])


def unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _unquoted(name: bytes) -> str:
    text = name.decode()
    return unescaped(text[1:-1]) if text.startswith('"') else text

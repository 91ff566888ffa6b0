"""Syntax errors in line protocol: the column, the expected text and the text found."""

import re
from typing import NamedTuple

from infrawatch.ingest.decoding.names import Flaw
from infrawatch.ingest.protocols.influx import grammar

_SHOWN_BYTES = 20


class _Part(NamedTuple):
    """A part of a line, its name, and the parts that may follow, of which the first match wins."""

    pattern: re.Pattern[bytes]
    name: str
    next: tuple[str, ...]


def _part(pattern: bytes, name: str, *following: str) -> _Part:
    return _Part(re.compile(pattern, re.DOTALL), name, following)


_PARTS = {
    "start": _part(rb"[ \t]*+", "", "measurement"),
    "measurement": _part(grammar.MEASUREMENT, "a measurement", "tag", "gap"),
    "tag": _part(rb",", "a comma and a tag", "tag key"),
    "tag key": _part(grammar.WORD, "the key of a tag", "tag equals"),
    "tag equals": _part(rb"=", "= and the value of the tag", "tag value"),
    "tag value": _part(grammar.WORD, "the value of a tag, which cannot be empty", "tag", "gap"),
    "gap": _part(rb" ++", "a space and the fields", "field key"),
    "field key": _part(grammar.WORD, "the key of a field", "field equals"),
    "field equals": _part(rb"=", "= and the value of the field", "field value"),
    "field value": _part(
        grammar.VALUE,
        "a number (1, -1.5e3, 42i, 42u), a boolean or a string in double quotes",
        *("field", "line end", "time gap"),
    ),
    "field": _part(rb",", "a comma and a field", "field key"),
    "time gap": _part(rb" ++", "a space and the time", "time"),
    "time": _part(grammar.TIMESTAMP, "the time as an integer", "line end"),
    "line end": _part(grammar.LINE_END, "the end of the line"),
}


def explain(body: bytes, start: int) -> Flaw:
    """Explain the syntax error of the line at `start`, which `grammar.LINE` does not match."""
    position = start
    following: tuple[str, ...] = ("start",)
    while True:
        for name in following:
            found = _PARTS[name].pattern.match(body, position)
            if found is not None:
                position, following = found.end(), _PARTS[name].next
                break
        else:
            expected = " or ".join(_PARTS[name].name for name in following)
            return _flaw(body, start, position, expected)


def _flaw(body: bytes, start: int, position: int, expected: str) -> Flaw:
    end = body.find(b"\n", position)
    rest = body[position : len(body) if end < 0 else end].rstrip(b"\r")
    shown = rest[:_SHOWN_BYTES].decode(errors="replace")
    found = repr(shown + "…" * (len(rest) > _SHOWN_BYTES)) if rest else "the end of the line"
    return Flaw(
        "malformed_line", f"column {position - start + 1}: expected {expected}, found {found}"
    )

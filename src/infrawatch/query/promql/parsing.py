"""Parses text to an expression whose types are checked."""

import re

import promql_parser as promql

from infrawatch.errors import InvalidQuery
from infrawatch.model.syntax import explained
from infrawatch.model.timerange import FAR_FUTURE_US, US

MAX_QUERY_CHARACTERS = 8_192

_MAX_PARTS = 200
"""The parser's time grows with their square: 12 ms for this many."""

_TEXT = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""", re.DOTALL)
_PART = re.compile(r"[-+*/%^(\[=<>@]|\b(?:and|or|unless|atan2|offset)\b", re.IGNORECASE)

_AT = re.compile(r"@(?!\s*(?:start|end)\s*\()\s*([-+]*\s*[^\s,()\[\]{}]*)", re.IGNORECASE)
"""A time after `@`; the parser reads any number there, and panics when asked for some of them."""


def parse_query(text: str) -> promql.Expr:
    """Read a PromQL expression.

    Source: Prometheus 2.45 and what promql-parser has added since.

    Raises:
        InvalidQuery: the text is not a valid expression, or too long.
    """
    if len(text) > MAX_QUERY_CHARACTERS:
        raise InvalidQuery(f"a query has at most {MAX_QUERY_CHARACTERS} characters")
    plain = _TEXT.sub('""', text)
    if len(_PART.findall(plain)) > _MAX_PARTS:
        raise InvalidQuery(
            f"a query has at most {_MAX_PARTS} operators, calls and matchers: ask in parts"
        )
    for found in _AT.finditer(plain):
        _check_time(found[1])
    if "\0" in text:
        raise InvalidQuery("no metric, label or value holds a NUL character")
    try:
        return promql.parse(text)
    except ValueError as error:
        raise InvalidQuery(f"not PromQL: {explained(str(error), text)}") from None


def _check_time(written: str) -> None:
    try:
        is_time = 0 <= float(written) * US < FAR_FUTURE_US
    except ValueError:
        is_time = False
    if not is_time:
        raise InvalidQuery(
            f"@ {written[:50]}: after @ comes start(), end(), or seconds between 1970 and 2200"
        )

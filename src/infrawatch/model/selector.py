"""Selectors: choose series, written as a PromQL vector selector."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import promql_parser

from infrawatch.errors import InvalidSelector
from infrawatch.model.expressions import BoundedPattern, compiled
from infrawatch.model.syntax import explained

MAX_SELECTOR_CHARACTERS = 8_192
"""Far above what users write; bounds the cost of parsing and compiling."""

METRIC_LABEL = "__name__"

_VALUES_REMEMBERED = 10_000
"""Values cached per matcher of one query; beyond that, values are matched again."""

_MAX_EXPRESSION_CHARACTERS = 300
"""Longer text must match `_PLAIN`: the parser takes seconds for thousands of nested operators."""

_PLAIN = re.compile(
    r"""\s*[\w:.]*\s*(?:\{(?:[^{}"'`]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)*\}\s*)?""",
    re.DOTALL,
)
"""An optional name, then an optional pair of braces around quoted strings and other characters."""


Predicate = Callable[[str, Mapping[str, str]], bool]
"""Whether a series matches, given its metric and its labels."""


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    MATCHES_NOT = "!~"


class Matcher(NamedTuple):
    """A condition on one label; an absent label counts as the empty string, as in Prometheus."""

    label: str
    operator: Operator
    value: str

    def accepts(self, value: str) -> bool:
        """Whether a label's value matches; regular expressions are RE2, anchored at both ends."""
        match self.operator:
            case Operator.EQUAL:
                return value == self.value
            case Operator.NOT_EQUAL:
                return value != self.value
            case Operator.MATCHES:
                return compiled(self.value).fullmatch(value) is not None
            case Operator.MATCHES_NOT:
                return compiled(self.value).fullmatch(value) is None


class Selector(NamedTuple):
    """Matchers that must all accept a series; the metric is the label `__name__`.

    Equal selectors select the same series, however they were written.
    """

    matchers: tuple[Matcher, ...]

    def accepts(self, metric: str, labels: Mapping[str, str]) -> bool:
        return all(
            matcher.accepts(
                metric if matcher.label == METRIC_LABEL else labels.get(matcher.label, "")
            )
            for matcher in self.matchers
        )


def to_predicate(selector: Selector, *, values_remembered: int = _VALUES_REMEMBERED) -> Predicate:
    """Return `selector.accepts` for many series, caching the result for each value.

    The predicate raises `QueryTooBroad` when matching takes too much work.
    """
    checks = [
        (matcher.label, lru_cache(values_remembered)(_to_check(matcher)))
        for matcher in selector.matchers
    ]

    def accepts(metric: str, labels: Mapping[str, str]) -> bool:
        return all(
            check(metric if label == METRIC_LABEL else labels.get(label, ""))
            for label, check in checks
        )

    return accepts


def _to_check(matcher: Matcher) -> Callable[[str], bool]:
    """Return `matcher.accepts`, with regular expressions limited in work."""
    if matcher.operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return matcher.accepts
    pattern, is_match = BoundedPattern(matcher.value), matcher.operator is Operator.MATCHES
    return lambda value: (pattern.fullmatch(value) is not None) == is_match


_SUCH_AS = 'node_load1{host=~"web-.*"}'


def parse_selector(text: str) -> Selector:
    """Parse a vector selector: `node_load1{host=~"web-.*"}`, `{"http.server.duration"}`.

    Source: Prometheus, "Querying basics", instant vector selectors.

    Raises:
        InvalidSelector: the text is too long or not a vector selector, or has an offset, `@`, or a
            bad expression.
    """
    if len(text) > MAX_SELECTOR_CHARACTERS:
        raise InvalidSelector(f"a selector has at most {MAX_SELECTOR_CHARACTERS} characters")
    if len(text) > _MAX_EXPRESSION_CHARACTERS and not _PLAIN.fullmatch(text):
        raise _not_plain(text)
    try:
        parsed = promql_parser.parse(text)
    except ValueError as error:
        raise InvalidSelector(
            f"not a vector selector such as {_SUCH_AS}: {explained(str(error), text)}"
        ) from None
    if not isinstance(parsed, promql_parser.VectorSelector):
        raise _not_plain(text)
    if parsed.offset is not None or parsed.at is not None:
        raise InvalidSelector("offset and @ have no place here: move start and end instead")
    return to_selector(parsed)


def _not_plain(text: str) -> InvalidSelector:
    return InvalidSelector(
        f"expected a plain selector such as {_SUCH_AS}, not the PromQL expression {text[:100]}"
    )


def to_selector(parsed: promql_parser.VectorSelector) -> Selector:
    """Convert the matchers of a parsed selector, ignoring its offset and `@`.

    Raises:
        InvalidSelector: the selector has alternatives, a NUL character, or a bad expression.
    """
    if parsed.matchers.or_matchers:
        raise InvalidSelector("alternatives with `or` are not supported: use a regular expression")
    name = parsed.name
    matchers = {Matcher(METRIC_LABEL, Operator.EQUAL, name)} if name else set()
    for one in parsed.matchers.matchers:
        matcher = Matcher(one.name, _OPERATORS[str(one.op)], one.value)
        if "\0" in matcher.label + matcher.value:
            raise InvalidSelector("no label holds a NUL character")
        if matcher.operator in (Operator.MATCHES, Operator.MATCHES_NOT):
            compiled(matcher.value)
        matchers.add(matcher)
    return Selector(tuple(sorted(matchers)))


_OPERATORS = {
    "MatchOp.Equal": Operator.EQUAL,
    "MatchOp.NotEqual": Operator.NOT_EQUAL,
    "MatchOp.Re": Operator.MATCHES,
    "MatchOp.NotRe": Operator.MATCHES_NOT,
}

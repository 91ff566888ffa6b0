"""Regular expressions with Prometheus' semantics, and a limit on the work of matching.

RE2's time is bounded by the product of the sizes of expression and value. That may still be a tenth
of a second for `(.*a){500}b` and four kilobytes, during which the interpreter is blocked.
"""

from functools import lru_cache
from time import thread_time

import re2

from infrawatch.errors import InvalidSelector, QueryTooBroad

_MAX_STEPS = 4_000_000
"""The most instructions times characters of one match: 25 ms. A name of 20 characters against 8 kB
of alternatives takes a hundredth of that."""

_PATIENCE_S, _USUAL_S = 1.0, 0.000_02
"""CPU time for all matches together, and what each may take beside that: five usual matches."""


class BoundedPattern:
    """Matches values one by one, within a budget of CPU time.

    A match that is faster than five usual ones restores part of the budget.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._pattern = compiled(expression)
        self._left_s = _PATIENCE_S

    def fullmatch(self, value: str) -> "re2._Match[str] | None":
        """Match the expression against the whole value; None if it does not match.

        Raises:
            QueryTooBroad: matching takes too much work.
        """
        if self._pattern.programsize * len(value) > _MAX_STEPS:
            raise self._refusal()
        began_s = thread_time()
        found = self._pattern.fullmatch(value)
        took_s = thread_time() - began_s
        self._left_s = min(self._left_s + _USUAL_S - took_s, _PATIENCE_S)
        if self._left_s < 0:
            raise self._refusal()
        return found

    def _refusal(self) -> QueryTooBroad:
        return QueryTooBroad(
            f"the regular expression {self._expression[:100]!r} takes too long on the values that "
            "are here: write a simpler one, or mean fewer series by other labels"
        )


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> "re2._Regexp[str]":
    """Compile a regular expression, not anchored at either end.

    Raises:
        InvalidSelector: the pattern is not valid RE2.
    """
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise InvalidSelector(f"bad regular expression {pattern[:100]!r}: {reason}") from None


def _quiet_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # errors are raised to the caller, not logged to stderr
    options.dot_nl = True  # Prometheus compiles with (?s)
    options.max_mem = 1 << 20
    return options


_OPTIONS = _quiet_options()

"""Regular expressions as Prometheus understands them, and how much work it may be to look with one.

RE2 takes no longer than the product of expression and value, but that may be a tenth of a second
for `(.*a){500}b` and four kilobytes, and nobody else has the interpreter meanwhile.
"""

from functools import lru_cache
from time import thread_time

import re2

from infrawatch.errors import InvalidSelector, QueryTooBroad

_MOST_STEPS = 4_000_000
"""Of one look, instructions times characters: 25 ms. A name of 20 characters among 8 kB of names
takes a hundredth of that."""

_PATIENCE_S, _USUAL_S = 1.0, 0.000_02
"""Of processor time for all looks together, and five times what a usual one takes beside that."""


class Looker:
    """Looks at one value after the other, until that has become too much work.

    Each look that is quicker than five usual ones pays back what others took.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._pattern = compiled(expression)
        self._left_s = _PATIENCE_S

    def fullmatch(self, value: str) -> "re2._Match[str] | None":
        """How the expression matches all of a value, if it does.

        Raises:
            QueryTooBroad: it is too much work.
        """
        if self._pattern.programsize * len(value) > _MOST_STEPS:
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
    """A regular expression, anchored at neither end.

    Raises:
        InvalidSelector: it is not RE2.
    """
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        raise InvalidSelector(f"bad regular expression {pattern[:100]!r}: {error}") from None


def _quiet_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # the error goes to who asked, not to stderr
    options.dot_nl = True  # Prometheus compiles with (?s)
    options.max_mem = 1 << 20
    return options


_OPTIONS = _quiet_options()

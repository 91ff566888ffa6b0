"""The moments at which the parts of a query are evaluated, and the data they need."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple, cast

import numpy as np
import promql_parser as promql

from infrawatch.errors import CannotEvaluate, InvalidQuery, QueryTooBroad
from infrawatch.model.samples import Int64s
from infrawatch.model.selector import Selector, to_selector
from infrawatch.model.timerange import FAR_FUTURE_US, TimeRange, duration_us, to_us

LOOKBACK_US = 300_000_000
"""Maximum age of the sample that represents its series: five minutes, Prometheus' default."""

SUBQUERY_STEP_US = 60_000_000
"""The step of subqueries without one: Prometheus' default evaluation interval."""

_MAX_MOMENTS = 100_000
"""The most moments of a subquery."""


class QueryTimes(NamedTuple):
    """The moments at which a whole query is evaluated; `@ start()` and `@ end()` refer to its ends.

    A sample represents its series while it is younger than `lookback_us`.
    """

    start_us: int
    end_us: int
    step_us: int
    lookback_us: int = LOOKBACK_US

    def moments(self) -> Int64s:
        return np.arange(self.start_us, self.end_us + 1, max(self.step_us, 1))

    def shifted(
        self, moments_us: Int64s, at: promql.AtModifier | None, offset: timedelta | None
    ) -> Int64s:
        """A selector's moments, moved by `@` and `offset`."""
        if at is not None:
            moments_us = np.full_like(moments_us, self._resolve(at))
        return moments_us if offset is None else moments_us - length_us(offset)

    def of_subquery(self, subquery: promql.SubqueryExpr, moments_us: Int64s) -> Int64s:
        """The moments at which the inner expression is evaluated: multiples of its step.

        Raises:
            CannotEvaluate: the subquery has no range.
            QueryTooBroad: there are too many moments.
        """
        if subquery.range is None:
            raise CannotEvaluate("a subquery needs a range: [10m:1m]")
        step_us = SUBQUERY_STEP_US if subquery.step is None else max(length_us(subquery.step), 1)
        shifted = self.shifted(moments_us, subquery.at, subquery.offset)
        first = (int(shifted.min()) - length_us(subquery.range)) // step_us + 1
        last = int(shifted.max()) // step_us
        if last - first >= _MAX_MOMENTS:
            raise QueryTooBroad(
                f"a subquery of {last - first} steps is more than {_MAX_MOMENTS}: ask for a "
                "longer step of it, or a shorter range"
            )
        return np.arange(first, last + 1) * step_us

    def _resolve(self, at: promql.AtModifier) -> int:
        if at.at is not None:
            return to_us(at.at)
        return self.start_us if at.type == promql.AtModifierType.Start else self.end_us


def length_us(duration: timedelta) -> int:
    """A duration in a query, in µs.

    Raises:
        InvalidQuery: the duration is too long.
    """
    length = duration_us(duration)
    if abs(length) > FAR_FUTURE_US:
        raise InvalidQuery("a range or an offset has 230 years at most")
    return length


class Need(NamedTuple):
    """The span to read for a selector, and the most moments at which it is evaluated."""

    span: TimeRange
    moments: int


def find_needs(expression: promql.Expr, times: QueryTimes) -> dict[Selector, Need]:
    """What a query needs of each of its selectors, over all moments of its evaluation.

    Raises:
        InvalidSelector: one of the selectors is not valid here.
        CannotEvaluate, QueryTooBroad: as `QueryTimes.of_subquery`.
    """
    needs: dict[Selector, Need] = {}
    for selector, (span, moments) in _needs(expression, times.moments(), times):
        known = needs.get(selector, Need(span, moments))
        start_us = min(known.span.start_us, span.start_us)
        end_us = max(known.span.end_us, span.end_us)
        needs[selector] = Need(TimeRange(start_us, end_us), max(known.moments, moments))
    return needs


def _needs(
    expression: promql.Expr, moments_us: Int64s, times: QueryTimes
) -> Iterator[tuple[Selector, Need]]:
    match expression:
        case promql.VectorSelector():
            yield _need(expression, moments_us, times, times.lookback_us)
        case promql.MatrixSelector(vector_selector=selector, range=length):
            yield _need(selector, moments_us, times, length_us(length))
        case promql.SubqueryExpr(expr=inner):
            inner_us = times.of_subquery(expression, moments_us)
            if len(inner_us):
                yield from _needs(inner, inner_us, times)
        case _:
            for part in parts(expression):
                yield from _needs(part, moments_us, times)


def _need(
    selector: promql.VectorSelector, moments_us: Int64s, times: QueryTimes, before_us: int
) -> tuple[Selector, Need]:
    shifted = times.shifted(moments_us, selector.at, selector.offset)
    start_us = min(max(int(shifted.min()) - before_us, 0), FAR_FUTURE_US)
    end_us = min(max(int(shifted.max()) + 1, start_us), FAR_FUTURE_US)
    return to_selector(selector), Need(TimeRange(start_us, end_us), len(moments_us))


def parts(expression: promql.Expr) -> list[promql.Expr]:
    """The subexpressions that are evaluated at the same moments as the expression."""
    match expression:
        case promql.AggregateExpr(expr=inner, param=None):
            return [inner]
        case promql.AggregateExpr(expr=inner, param=parameter):
            return [inner, cast(promql.Expr, parameter)]
        case promql.UnaryExpr(expr=inner) | promql.ParenExpr(expr=inner):
            return [inner]
        case promql.BinaryExpr(lhs=left, rhs=right):
            return [left, right]
        case promql.Call(args=arguments):
            return list(arguments)
    return []

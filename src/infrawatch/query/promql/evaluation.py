"""Evaluates expressions, given the samples of their selectors. No I/O."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from time import monotonic
from types import MappingProxyType
from typing import Any, ClassVar, cast

import numpy as np
import promql_parser as promql

from infrawatch.errors import CannotEvaluate, DeadlineExceeded, QueryTooBroad
from infrawatch.model.samples import Float64s, Int64s, is_stale
from infrawatch.model.selector import METRIC_LABEL, Operator, Selector, to_selector
from infrawatch.model.timerange import US
from infrawatch.query.limits import ReadLimits
from infrawatch.query.promql import aggregations, calls, operators
from infrawatch.query.promql.moments import QueryTimes, length_us
from infrawatch.query.promql.over_time import KEEP_NAME, WINDOW_FUNCTIONS, WITH_PARAMETER
from infrawatch.query.promql.responses import Value
from infrawatch.query.promql.samples import Samples, WindowFunction
from infrawatch.query.promql.vectors import Labels, Vector


class Evaluation:
    """Evaluates the parts of one query, each at its own moments (µs)."""

    def __init__(
        self, samples: Mapping[Selector, Samples], times: QueryTimes, limits: ReadLimits
    ) -> None:
        self._samples = samples
        self._times = times
        self._limits = limits
        self._ends = monotonic() + limits.deadline.total_seconds()

    def of(self, expression: promql.Expr) -> Value | Samples:
        """Evaluate a whole query at the moments it is asked for.

        Raises:
            CannotEvaluate: the query uses something unsupported, or has no answer.
            QueryTooBroad: the query exceeds a limit.
            DeadlineExceeded: the evaluation takes too long.
        """
        moments_us = self._times.moments()
        expression = plain(expression)
        with np.errstate(all="ignore"):
            if isinstance(expression, (promql.MatrixSelector, promql.SubqueryExpr)):
                return self._raw(expression, moments_us)
            value = self._value(expression, moments_us)
        return value.unique() if isinstance(value, Vector) else value

    def _value(self, expression: promql.Expr, moments_us: Int64s) -> Value:
        match expression:
            case promql.NumberLiteral():
                return np.full(len(moments_us), expression.val)
            case promql.StringLiteral():
                return expression.val
            case promql.ParenExpr():
                return self._value(expression.expr, moments_us)
        if monotonic() > self._ends:
            raise DeadlineExceeded(
                f"there is no answer within {self._limits.deadline_name}: ask for less"
            )
        evaluate = self._BY_TYPE.get(type(expression))
        if evaluate is None:
            raise CannotEvaluate(
                "a range such as metric[5m] has no value itself: it is what functions like rate() "
                "take"
            )
        return evaluate(self, expression, moments_us)

    def _vector(self, expression: promql.Expr, moments_us: Int64s) -> Vector:
        return cast(Vector, self._value(expression, moments_us))  # the parser checks types

    def _number(self, expression: promql.Expr, moments_us: Int64s) -> Float64s:
        return cast(Float64s, self._value(expression, moments_us))

    def _selected(self, selector: promql.VectorSelector, moments_us: Int64s) -> Vector:
        vector, _ = self._latest(selector, moments_us)
        return vector

    def _latest(self, selector: promql.VectorSelector, moments_us: Int64s) -> tuple[Vector, Int64s]:
        samples = self._found(selector, len(moments_us))
        shifted = self._times.shifted(moments_us, selector.at, selector.offset)
        return samples.latest(shifted, self._times.lookback_us)

    def _found(self, selector: promql.VectorSelector, moments: int) -> Samples:
        samples = self._samples[to_selector(selector)]
        self._check(len(samples.labels), moments)
        return samples

    def _check(self, series: int, moments: int) -> None:
        max_values = self._limits.samples
        if series * moments > max_values:
            raise QueryTooBroad(
                f"{series} series at {moments} moments are more than {max_values} values: "
                "ask for a longer step or fewer series, or raise INFRAWATCH_READ_MAX_SAMPLES"
            )

    def _raw(
        self, selected: promql.MatrixSelector | promql.SubqueryExpr, moments_us: Int64s
    ) -> Samples:
        samples, ends_us, range_us = self._ranged(selected, moments_us)
        times_us, end_us = samples.times_us, ends_us[-1]
        return samples.picked((times_us > end_us - range_us) & (times_us <= end_us))

    def _negated(self, expression: promql.UnaryExpr, moments_us: Int64s) -> Value:
        value = self._value(expression.expr, moments_us)
        if isinstance(value, Vector):
            return value.with_values(-value.values).without_name()
        return -cast(Float64s, value)

    def _binary(self, expression: promql.BinaryExpr, moments_us: Int64s) -> Value:
        operator, modifier = str(expression.op), expression.modifier
        left = self._value(expression.lhs, moments_us)
        right = self._value(expression.rhs, moments_us)
        is_bool = modifier is not None and modifier.return_bool
        match left, right:
            case Vector(), Vector():
                return operators.with_vector(operator, left, right, modifier)
            case Vector(), np.ndarray():
                return operators.with_number(operator, left, right, is_left=True, is_bool=is_bool)
            case np.ndarray(), Vector():
                return operators.with_number(operator, right, left, is_left=False, is_bool=is_bool)
        return operators.calculate(operator, cast(Float64s, left), cast(Float64s, right))

    def _aggregated(self, expression: promql.AggregateExpr, moments_us: Int64s) -> Vector:
        operator, modifier = str(expression.op), expression.modifier
        vector = self._vector(expression.expr, moments_us)
        if operator in aggregations.REDUCTIONS:
            return aggregations.aggregate(operator, vector, modifier)
        parameter = self._value(cast(promql.Expr, expression.param), moments_us)
        match operator, parameter:
            case "quantile", np.ndarray():
                return aggregations.quantile(parameter, vector, modifier)
            case "topk" | "bottomk", np.ndarray():
                return aggregations.extremes(
                    parameter, vector, modifier, are_largest=operator == "topk"
                )
            case "count_values", str():
                return aggregations.count_values(parameter, vector, modifier)
        raise CannotEvaluate(f"the aggregation {operator} is not known here")

    def _called(self, call: promql.Call, moments_us: Int64s) -> Value:
        name, arguments = call.func.name, call.args
        if name in WINDOW_FUNCTIONS:
            return self._over(arguments[0], moments_us, WINDOW_FUNCTIONS[name], name)
        if name in WITH_PARAMETER:
            ranges = (promql.MatrixSelector, promql.SubqueryExpr)
            place = 0 if isinstance(plain(arguments[0]), ranges) else 1
            number = self._number(arguments[1 - place], moments_us)
            return self._over(arguments[place], moments_us, WITH_PARAMETER[name](number), name)
        if name in calls.OF_EXPRESSIONS:
            return self._of_expression(name, arguments[0], moments_us)
        if name == "time":
            return moments_us / US
        if name in calls.FUNCTIONS:
            values = [self._value(argument, moments_us) for argument in arguments]
            if not values:
                values = [calls.of_one(moments_us / US)]
            return calls.FUNCTIONS[name](*values)
        raise CannotEvaluate(f"the function {name} is not known here")

    def _over(
        self, argument: promql.Expr, moments_us: Int64s, function: WindowFunction, name: str
    ) -> Vector:
        """Apply a function to the windows of a range selector or of a subquery."""
        samples, shifted, range_us = self._ranged(plain(argument), moments_us)
        is_sample = ~is_stale(samples.values)
        vector = samples.picked(is_sample).over(shifted, range_us, function)
        return vector if name in KEEP_NAME else vector.without_name()

    def _ranged(self, argument: promql.Expr, moments_us: Int64s) -> tuple[Samples, Int64s, int]:
        """The samples, the ends of their windows, and the length of the windows in µs."""
        if isinstance(argument, promql.SubqueryExpr):
            inner_us = self._times.of_subquery(argument, moments_us)
            is_empty = len(inner_us) == 0  # no multiple of its step lies in any window
            vector = Vector.blank(0) if is_empty else self._vector(argument.expr, inner_us)
            self._check(len(vector.labels), max(len(inner_us), len(moments_us)))
            shifted = self._times.shifted(moments_us, argument.at, argument.offset)
            range_us = length_us(cast(timedelta, argument.range))  # of_subquery has checked
            return Samples.of_vector(vector, inner_us), shifted, range_us
        selected = cast(promql.MatrixSelector, argument)
        selector = selected.vector_selector
        samples = self._found(selector, len(moments_us))
        shifted = self._times.shifted(moments_us, selector.at, selector.offset)
        return samples, shifted, length_us(selected.range)

    def _of_expression(self, name: str, argument: promql.Expr, moments_us: Int64s) -> Vector:
        """Evaluate a function that depends on how its argument is written."""
        argument = plain(argument)
        if name == "timestamp" and isinstance(argument, promql.VectorSelector):
            vector, times_us = self._latest(argument, moments_us)
            return vector.with_values(times_us // 1_000 / 1_000).without_name()
        if name == "absent_over_time":
            is_there = WINDOW_FUNCTIONS["present_over_time"]
            vector = self._over(argument, moments_us, is_there, "last_over_time")
        else:
            vector = self._vector(argument, moments_us)
        if name == "timestamp":
            now = np.broadcast_to(moments_us / US, vector.values.shape)
            return vector.with_values(now).without_name()
        return calls.absent(vector, _expected(argument))

    _BY_TYPE: ClassVar[Mapping[type, Callable[["Evaluation", Any, Int64s], Value]]] = (
        MappingProxyType(
            {
                promql.VectorSelector: _selected,
                promql.UnaryExpr: _negated,
                promql.BinaryExpr: _binary,
                promql.AggregateExpr: _aggregated,
                promql.Call: _called,
            }
        )
    )


def plain(expression: promql.Expr) -> promql.Expr:
    """The expression without the parentheses around it."""
    while isinstance(expression, promql.ParenExpr):
        expression = expression.expr
    return expression


def _expected(expression: promql.Expr) -> Labels:
    """The labels of a missing series, as far as its selector determines them."""
    if isinstance(expression, promql.MatrixSelector):
        expression = expression.vector_selector
    if not isinstance(expression, promql.VectorSelector):
        return {}
    matchers = to_selector(expression).matchers
    names = [matcher.label for matcher in matchers]
    return {
        matcher.label: matcher.value
        for matcher in matchers
        if matcher.operator is Operator.EQUAL
        and matcher.value
        and matcher.label != METRIC_LABEL
        and names.count(matcher.label) == 1
    }

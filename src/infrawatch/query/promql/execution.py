"""Runs a query: the samples it needs are read in one snapshot, then it is evaluated."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import promql_parser as promql

from infrawatch.errors import InvalidQuery
from infrawatch.model.selector import METRIC_LABEL, Selector
from infrawatch.query.aggregate import series_in
from infrawatch.query.limits import QueryContext, ReadLimits
from infrawatch.query.plan import Reader
from infrawatch.query.promql.evaluation import Evaluation, plain
from infrawatch.query.promql.moments import QueryTimes, find_needs
from infrawatch.query.promql.parsing import parse_query
from infrawatch.query.promql.responses import Result
from infrawatch.query.promql.samples import Samples
from infrawatch.query.results import SelectedSamples


async def run_query(
    reader: Reader, context: QueryContext, text: str, times: QueryTimes, *, is_range: bool
) -> Result:
    """Evaluate a query at the moments asked for.

    Raises:
        InvalidQuery: the text is not PromQL, or its type cannot be evaluated over a range.
        CannotEvaluate: the query has no answer.
        QueryTooBroad: the query exceeds a limit.
        DeadlineExceeded: the query took too long.
    """
    expression = parse_query(text)
    if is_range and isinstance(
        plain(expression), (promql.StringLiteral, promql.MatrixSelector, promql.SubqueryExpr)
    ):
        raise InvalidQuery("over a range, a query must be a number or an instant vector")
    needs = find_needs(expression, times)
    spans = {selector: need.span for selector, need in needs.items()}
    async with reader.find(context, spans) as found:
        values = max(
            (len(found[selector].series) * need.moments for selector, need in needs.items()),
            default=0,
        )
        limits = reader.limits_of(context)
        evaluate = partial(_evaluated, expression, found, times, limits, is_range=is_range)
        return await reader.in_thread(values, evaluate, limits)


def _evaluated(
    expression: promql.Expr,
    found: Mapping[Selector, SelectedSamples],
    times: QueryTimes,
    limits: ReadLimits,
    *,
    is_range: bool,
) -> Result:
    samples = {selector: _to_samples(one) for selector, one in found.items()}
    value = Evaluation(samples, times, limits).of(expression)
    return Result(value, times.moments(), is_range)


def _to_samples(found: SelectedSamples) -> Samples:
    rows = [found.series[series_id] for series_id in series_in(found.columns).tolist()]
    labels = [{METRIC_LABEL: one.metric, **one.labels} for one in rows]
    is_delta = np.fromiter((one.metric in found.deltas for one in rows), np.bool_, len(rows))
    return Samples.of(labels, found.columns, is_delta)

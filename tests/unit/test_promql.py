"""PromQL over a few samples; `test_promql_beside_prometheus.py` asks Prometheus itself."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import numpy as np
import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.errors import (
    CannotEvaluate,
    DeadlineExceeded,
    InvalidInput,
    InvalidQuery,
    QueryTooBroad,
)
from infrawatch.model.samples import STALE_NAN_BITS, Columns
from infrawatch.model.selector import METRIC_LABEL, Selector
from infrawatch.model.timerange import US
from infrawatch.query.limits import ReadLimits
from infrawatch.query.promql.evaluation import Evaluation
from infrawatch.query.promql.moments import QueryTimes, find_needs
from infrawatch.query.promql.parsing import parse_query
from infrawatch.query.promql.responses import Result, encode, to_texts
from infrawatch.query.promql.samples import Samples

LIMITS = ReadLimits(series=100, samples=10_000, deadline=timedelta(minutes=1))
STALE = float(np.array([STALE_NAN_BITS], np.int64).view(np.float64)[0])

Told = Mapping[str, Sequence[tuple[int, float]]]
"""Samples, (second, value), by the labels of their series as JSON."""

REQUESTS: Told = {
    '{"__name__":"requests","host":"a"}': [(0, 0), (10, 10), (20, 30), (30, 5), (40, 15)],
    '{"__name__":"requests","host":"b"}': [(0, 100), (20, 120), (40, 140)],
    '{"__name__":"limit","host":"a"}': [(0, 7), (40, 8)],
}


def evaluated(query: str, told: Told = REQUESTS, *, delta: bool = False, at: int = 40) -> object:
    """The result of a query at one moment, by series: a number, or {labels: value}."""
    times = QueryTimes(at * US, at * US, 0)
    return json.loads(b"".join(encode(evaluate(query, told, times, delta=delta))))["data"]["result"]


def by_series(query: str, told: Told = REQUESTS, *, delta: bool = False) -> dict[str, float]:
    found = evaluated(query, told, delta=delta)
    assert isinstance(found, list)
    return {
        json.dumps(one["metric"], separators=(",", ":")): float(one["value"][1]) for one in found
    }


def evaluate(query: str, told: Told, times: QueryTimes, *, delta: bool = False) -> Result:
    expression = parse_query(query)
    samples = {one: select(one, told, delta) for one in find_needs(expression, times)}
    value = Evaluation(samples, times, LIMITS).of(expression)
    return Result(value, times.moments(), is_range=times.step_us > 0)


def select(selector: Selector, told: Told, is_delta: bool) -> Samples:
    named = [json.loads(text) for text in told]
    kept = [
        number
        for number, labels in enumerate(named)
        if selector.accepts(labels[METRIC_LABEL], labels)
    ]
    series = list(told.values())
    rows = [(number, at * US, value) for number in kept for at, value in series[number]]
    ids, times, values = zip(*rows, strict=True) if rows else ((), (), ())
    columns = Columns(np.array(ids, np.int64), np.array(times, np.int64), np.array(values, float))
    return Samples.of([named[number] for number in kept], columns, np.full(len(kept), is_delta))


def test_a_restarted_counter_has_gained_its_value_before_and_after() -> None:
    # 10 + 20 + 5 + 10 within 40 s; the window begins when the counter stood at 0.
    assert by_series('increase(requests{host="a"}[50s])') == {'{"host":"a"}': 45.0}


def test_a_delta_series_gained_what_was_sent() -> None:
    told = {'{"__name__":"sent"}': [(10, 3.0), (20, 4.0), (30, 5.0)]}
    assert by_series("increase(sent[30s])", told, delta=True) == {"{}": 9.0}
    assert by_series("rate(sent[30s])", told, delta=True) == {"{}": 0.3}


def test_one_sample_in_a_window_gives_no_rate() -> None:
    assert evaluated("rate(limit[30s])") == []


def test_a_window_does_not_hold_its_beginning() -> None:
    assert by_series("count_over_time(limit[40s])") == {'{"host":"a"}': 1.0}
    assert by_series("count_over_time(limit[41s])") == {'{"host":"a"}': 2.0}


def test_a_series_that_ended_is_not_there_any_more() -> None:
    told = {'{"__name__":"up"}': [(10, 1.0), (20, STALE)], '{"__name__":"up","a":"b"}': [(30, 1.0)]}
    assert by_series("up", told) == {'{"__name__":"up","a":"b"}': 1.0}
    assert by_series("count_over_time(up[1m])", told) == {"{}": 1.0, '{"a":"b"}': 1.0}


def test_a_sample_older_than_five_minutes_does_not_count() -> None:
    assert evaluated("limit", at=40 + 299) != []
    assert evaluated("limit", at=40 + 300) == []


def test_series_go_with_those_that_have_the_same_labels() -> None:
    assert by_series("requests / limit") == {'{"host":"a"}': 15 / 8}
    assert by_series("requests - on() group_left() limit") == {
        '{"host":"a"}': 7.0,
        '{"host":"b"}': 132.0,
    }


def test_two_series_with_the_same_resulting_labels_are_an_error() -> None:
    with pytest.raises(CannotEvaluate, match="same labels"):
        evaluated('label_replace(requests, "host", "x", "host", ".*")')
    for doubled in (
        'label_join({}, "host", "ab", "host", "host")',
        'label_replace({}, "host", "$1$1", "host", "(.*)")',
    ):
        query = "requests"
        for _ in range(40):  # else a terabyte
            query = doubled.format(query)
        with pytest.raises(CannotEvaluate, match="4096 characters"):
            evaluated(query)
    with pytest.raises(CannotEvaluate, match="group_left"):
        evaluated("requests + on() limit")
    with pytest.raises(CannotEvaluate, match="several series on the right"):
        evaluated("limit + on() requests")


def test_nan_is_the_least_there_is_and_no_extreme() -> None:
    told = {
        '{"__name__":"odd","n":"1"}': [(40, math.nan)],
        '{"__name__":"odd","n":"2"}': [(40, 5.0)],
    }
    assert by_series("max(odd)", told) == {"{}": 5.0}
    assert list(by_series("bottomk(1, odd)", told)) == ['{"__name__":"odd","n":"2"}']
    assert list(by_series("topk(1, odd)", told)) == ['{"__name__":"odd","n":"2"}']
    assert math.isnan(by_series("quantile(0, odd)", told)["{}"])


def test_a_quantile_lies_between_the_bounds_of_its_bucket() -> None:
    counts = {"0.1": 10.0, "0.5": 30.0, "1": 40.0, "+Inf": 40.0}
    told = {f'{{"__name__":"b","le":"{le}"}}': [(40, n)] for le, n in counts.items()}
    assert by_series("histogram_quantile(0.5, b)", told) == {"{}": pytest.approx(0.3)}
    assert by_series("histogram_quantile(1, b)", told) == {"{}": 1.0}
    assert math.isnan(by_series('histogram_quantile(0.5, b{le!="+Inf"})', told)["{}"])


def test_a_bound_is_the_same_however_its_sender_writes_it() -> None:
    counts = {"1": 10.0, "1.0": 30.0, "+Inf": 40.0}
    told = {f'{{"__name__":"b","le":"{le}"}}': [(40, n)] for le, n in counts.items()}
    assert by_series("histogram_quantile(0.5, b)", told) == {"{}": pytest.approx(0.5)}


def test_a_subquery_is_evaluated_at_multiples_of_its_step() -> None:
    times = QueryTimes(41 * US, 49 * US, 8 * US)
    (one,) = json.loads(
        b"".join(encode(evaluate("count_over_time(limit[20s:10s])", REQUESTS, times)))
    )["data"]["result"]
    assert one["values"] == [[41.0, "2"], [49.0, "2"]]


def test_a_subquery_that_is_never_evaluated_is_empty() -> None:
    for inner in ("limit", "limit + requests", "max_over_time(limit[1m:5s])"):
        assert evaluated(f"max_over_time(({inner})[30s:1h])") == []


def test_a_subquery_alone_is_what_it_was_at_each_of_its_steps() -> None:
    assert evaluated("(limit + 1)[25s:10s]") == [
        {"metric": {"host": "a"}, "values": [[20.0, "8"], [30.0, "8"], [40.0, "9"]]}
    ]


def test_values_are_written_as_prometheus_writes_them() -> None:
    told = {
        f'{{"__name__":"v","n":"{n}"}}': [(40, value)]
        for n, value in enumerate([1.0, 0.1, -math.inf, math.inf, math.nan])
    }
    found = evaluated("v", told)
    assert isinstance(found, list)
    assert [one["value"] for one in found] == [
        [40.0, text] for text in ("1", "0.1", "-Inf", "+Inf", "NaN")
    ]


def test_expensive_queries_are_refused_before_they_run() -> None:
    times = QueryTimes(0, 10_000 * US, US)
    with pytest.raises(QueryTooBroad, match="longer step"):
        evaluate("requests", REQUESTS, times)
    with pytest.raises(QueryTooBroad, match="longer step"):
        evaluate("max_over_time(requests[1y:1s])", REQUESTS, times)


def test_values_that_are_all_different_are_too_many_to_count() -> None:
    told = {f'{{"__name__":"x","n":"{n}"}}': [(40, float(n))] for n in range(1_001)}
    with pytest.raises(QueryTooBroad, match="round"):
        evaluated('count_values("v", x)', told)


def test_an_evaluation_that_takes_too_long_is_aborted() -> None:
    times = QueryTimes(0, 0, 0)
    expression = parse_query("vector(1) + 1")
    no_time = replace(LIMITS, deadline=timedelta(seconds=-1))
    with pytest.raises(DeadlineExceeded, match="INFRAWATCH_READ_DEADLINE"):
        Evaluation({}, times, no_time).of(expression)


@pytest.mark.parametrize(
    "query", ["", "sum(", "x" * 9_000, "(" * 201, "-" * 201 + "x", "x\0", "rate(x)", "1 > 2"]
)
def test_an_invalid_query_is_refused(query: str) -> None:
    with pytest.raises(InvalidQuery):
        parse_query(query)


@pytest.mark.parametrize("query", ["ln(-1)", "log2(0)", "sqrt(-1)", "exp(Inf)", "abs(-Inf)"])
def test_a_number_where_a_vector_belongs_is_refused(query: str) -> None:
    with pytest.raises(InvalidQuery, match="vector"):
        evaluated(query)


FAR = [
    "limit offset 9999y",
    "limit[9999y]",
    "limit offset -9999y",
    "max_over_time(limit[9999y:1d])",
]


@pytest.mark.parametrize("query", FAR)
def test_a_duration_beyond_the_range_of_time_is_refused(query: str) -> None:
    with pytest.raises(InvalidQuery, match="230 years at most"):
        evaluated(query)


def test_spans_before_and_after_all_samples_are_empty() -> None:
    assert evaluated("limit offset 200y") == []
    assert evaluated("limit offset -200y") == []
    assert evaluated("limit @ 7e9") == []


@pytest.mark.parametrize("time", ["-1", "- 1", "1e30", "-1e30", "1e11", "NaN", "inf", "0x1F", "5m"])
def test_a_time_that_is_none_is_refused_by_name(time: str) -> None:
    with pytest.raises(InvalidQuery, match=r"start\(\), end\(\), or seconds"):
        evaluated(f"limit @ {time}")


PIECES = (
    *("requests", "limit", "{", "}", "(", ")", "[", "]", "5m", "1m:", "10s", "offset", "@", "-1"),
    *(
        "start()",
        "by",
        "on",
        "group_left",
        "bool",
        "and",
        "or",
        "+",
        "-",
        "^",
        ">",
        ",",
        '"a"',
        "=",
    ),
    *("sum", "rate", "topk", "quantile_over_time", "count_values", "clamp", "0.5", "1e309", "NaN"),
    *("timestamp", "absent", "label_replace", "hour", "vector", "scalar", "time()", "`$1`", "le"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_any_expression_is_answered_or_refused_by_name(query: str) -> None:
    with suppress(InvalidInput):
        result = evaluate(query, REQUESTS, QueryTimes(40 * US, 60 * US, 10 * US))
        json.loads(b"".join(encode(result)))


CALLS = [
    f"{name}({arguments})"
    for name in ("abs", "rate", "max_over_time", "day_of_year", "sort", "scalar", "absent", "round")
    for arguments in ("requests", "requests[1m]", "requests[1m:5s]", "nothing", "nothing[1m]", "1")
]


@pytest.mark.parametrize("query", CALLS)
def test_a_function_call_is_evaluated_or_refused_by_name(query: str) -> None:
    try:
        promql_parser.parse(query)
    except ValueError:
        with pytest.raises(InvalidQuery):
            parse_query(query)
    else:
        evaluated(query)


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-0", "1", "-2.5", "0.0001", "0.000012345", "0.000001", "-0.00001", "9.5e-07"),
        *("5e-324", "9999999999999998", "12345678901234568", "-100000000000000000000", "1e+21"),
        *("1.7976931348623157e+308", "NaN", "+Inf", "-Inf"),
    ],
)
def test_numbers_are_written_as_prometheus_does(text: str) -> None:
    assert to_texts(np.array([float(text), 1.5])) == [text, "1.5"]


def test_scalars_have_no_exponents() -> None:
    numbers = to_texts(np.array([1e-9, -1e21, 0.1]), has_exponents=False)
    assert numbers == ["0.000000001", "-1000000000000000000000", "0.1"]

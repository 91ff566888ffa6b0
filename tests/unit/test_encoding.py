"""Answers are whole and valid in every format, and never in memory as a whole."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import STALE

from infrawatch.model.samples import Columns, is_stale
from infrawatch.model.timerange import TimeRange
from infrawatch.query.encoding import encode_csv, encode_json, encode_ndjson, encode_ranges
from infrawatch.query.formats import Encode, wanted_format
from infrawatch.query.grouping import Group, Ranges
from infrawatch.query.results import SampleStream
from infrawatch.query.steps import Steps, Table
from infrawatch.store.selection.catalog import Series

Samples = Sequence[tuple[int, float]]

values = st.floats(allow_nan=True, allow_infinity=True) | st.just(STALE)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
histories = st.lists(st.tuples(st.integers(0, 2**52), values), min_size=1, max_size=5)
answers = st.dictionaries(st.integers(1, 2**63 - 1), st.tuples(texts, histories), max_size=4)


def to_packed(told: Mapping[int, tuple[str, Samples]]) -> SampleStream:
    series = {
        series_id: Series(series_id, "up", {"host": host}) for series_id, (host, _) in told.items()
    }
    rows = [
        (series_id, *sample) for series_id in sorted(told) for sample in sorted(told[series_id][1])
    ]
    columns = Columns(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
    )
    return SampleStream(series, [columns], len(columns))


def to_wire(found: SampleStream) -> list[dict[str, object]]:
    """The expected result, computed in the simplest way."""
    series: dict[int, dict[str, object]] = {}
    samples: dict[int, list[list[object]]] = {}
    [columns] = found.blocks
    for series_id, time_us, value in zip(*map(np.ndarray.tolist, columns), strict=True):
        one = found.series[series_id]
        series[series_id] = {"id": str(series_id), "metric": one.metric, "labels": one.labels}
        samples.setdefault(series_id, []).append([time_us, to_wire_value(value)])
    return [{**series[series_id], "samples": samples[series_id]} for series_id in series]


def to_wire_value(value: float) -> object:
    if is_stale(np.array([value]))[0]:
        return None
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"


@given(answers.map(to_packed))
def test_json_holds_every_series_and_sample(found: SampleStream) -> None:
    assert json.loads(b"".join(encode_json(found, "us"))) == {"series": to_wire(found)}


@given(answers.map(to_packed))
def test_ndjson_holds_the_same_a_series_a_line(found: SampleStream) -> None:
    text = b"".join(encode_ndjson(found, "us")).decode()

    assert [json.loads(line) for line in text.split("\n")[:-1]] == to_wire(found)


@given(answers.map(to_packed))
def test_csv_holds_the_same_a_sample_a_line(found: SampleStream) -> None:
    text = b"".join(encode_csv(found, "us")).decode()

    _, *rows = csv.reader(io.StringIO(text, newline=""))
    assert [
        [series_id, metric, json.loads(labels), *rest] for series_id, metric, labels, *rest in rows
    ] == [
        [one["id"], one["metric"], one["labels"], str(time), "" if value is None else str(value)]
        for one in to_wire(found)
        for time, value in one["samples"]  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize("encode", [encode_json, encode_ndjson, encode_csv])
def test_one_long_series_comes_in_small_pieces(encode: Encode) -> None:
    count = 300_000
    found = to_packed({64: ("a", [(n, n / 7) for n in range(count)])})

    sizes = [len(piece) for piece in encode(found, "us")]

    assert max(sizes) < 300_000 < sum(sizes)


def test_a_group_has_no_id_and_an_empty_step_no_value() -> None:
    table = Table(np.array([[1.5, np.nan, np.nan]]), np.array([[False, False, True]]))
    ranges = Ranges(
        [Group(None, None, {"host": "a"})], Steps(TimeRange(0, 3_000_000), 1_000_000), table
    )

    assert json.loads(b"".join(encode_ranges(ranges, "ms"))) == {
        "series": [
            {
                "id": None,
                "metric": None,
                "labels": {"host": "a"},
                "samples": [[0, 1.5], [1000, "NaN"], [2000, None]],
            }
        ]
    }


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("Text/CSV", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;header=present, */*;q=0.1", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/csv;q=0.2, application/x-ndjson;q=0.9", "application/x-ndjson"),
        ("*/*;q=0.5, application/json;q=0", "application/x-ndjson"),
        ("text/csv;q=0, application/x-ndjson;q=nonsense", "application/json"),
        ("image/png, ,;q=1,/", "application/json"),
    ],
)
def test_accept_determines_the_preferred_format(accept: str, answered: str) -> None:
    assert wanted_format(accept) == answered

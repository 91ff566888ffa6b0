"""The native formats: what is wrong is named where it stands, what is good comes through."""

import json
import struct
from functools import partial
from typing import Any

import numpy as np
import pytest
from decoding import (
    Content,
    content_of,
    content_or_refusal,
    decoded_carefully,
    nothing_known,
    verdicts_on,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from infrawatch.errors import BatchTooLarge, MalformedBody
from infrawatch.ingest.native.decode import decode_json, decode_ndjson
from infrawatch.ingest.schemas import MAX_BATCH_SAMPLES, MAX_BATCH_SERIES, MAX_LABELS
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

GOOD: dict[str, Any] = {"metric": "up", "labels": {"host": "a"}, "samples": [[1, 2.5]]}

WRONG = [
    ({"metric": "9lives"}, "/metric", "invalid_metric"),
    ({"metric": "up\n"}, "/metric", "invalid_metric"),
    ({"metric": ""}, "/metric", "invalid_metric"),
    ({"metric": "a" * 201}, "/metric", "too_long"),
    ({"metric": None}, "/metric", "wrong_type"),
    ({"labels": []}, "/labels", "wrong_type"),
    ({"labels": {"9a": "b"}}, "/labels/9a", "invalid_label_name"),
    ({"labels": {"": "b"}}, "/labels/", "invalid_label_name"),
    ({"labels": {"__name__": "b"}}, "/labels/__name__", "invalid_label_name"),
    ({"labels": {"[key]": "b"}}, "/labels/[key]", "invalid_label_name"),
    ({"labels": {"a/b~c": "b"}}, "/labels/a~1b~0c", "invalid_label_name"),
    ({"labels": {"a" * 201: "b"}}, "/labels/" + "a" * 201, "too_long"),
    ({"labels": {"a": 1}}, "/labels/a", "wrong_type"),
    ({"labels": {"a": "b\0"}}, "/labels/a", "invalid_label_value"),
    ({"labels": {"a": "b" * 4_097}}, "/labels/a", "too_long"),
    ({"labels": {f"l{n}": "" for n in range(MAX_LABELS + 1)}}, "/labels", "too_many_labels"),
    ({"type": "meter"}, "/type", "unknown_value"),
    ({"unit": "s\0"}, "/unit", "invalid_text"),
    ({"help": "x" * 1_025}, "/help", "too_long"),
    ({"help": 1}, "/help", "wrong_type"),
    ({"sample": []}, "/sample", "unknown_field"),
    ({"[key]": 1}, "/[key]", "unknown_field"),
    ({f"x{n}": n for n in range(100)}, "", "unknown_field"),
    ({"samples": []}, "/samples", "empty"),
    ({"samples": {}}, "/samples", "wrong_type"),
    ({"samples": [[1, 1], 2]}, "/samples/1", "wrong_type"),
    ({"samples": [[1, 2, 3]]}, "/samples/0", "wrong_type"),
    ({"samples": [[1.5, 2]]}, "/samples/0/0", "wrong_type"),
    ({"samples": [["1", 2]]}, "/samples/0/0", "wrong_type"),
    ({"samples": [[True, 2]]}, "/samples/0/0", "wrong_type"),
    ({"samples": [[2**63, 2]]}, "/samples/0/0", "out_of_range"),
    ({"samples": [[-(2**63) - 1, 2]]}, "/samples/0/0", "out_of_range"),
    ({"samples": [[10**400, 2]]}, "/samples/0/0", "out_of_range"),
    ({"samples": [[1, None]]}, "/samples/0/1", "wrong_type"),
    ({"samples": [[1, True]]}, "/samples/0/1", "wrong_type"),
    ({"samples": [[1, "1.5"]]}, "/samples/0/1", "wrong_type"),
    ({"samples": [[1, float("nan")]]}, "/samples/0/1", "not_finite"),
    ({"samples": [[1, float("-inf")]]}, "/samples/0/1", "not_finite"),
    ({"samples": [[1, 10**400]]}, "/samples/0/1", "wrong_type"),
]


def encoded(*series: object) -> bytes:
    return json.dumps({"series": series}).encode()


def encoded_line(series: object) -> bytes:
    return json.dumps(series).encode()


@pytest.mark.parametrize(("change", "pointer", "code"), WRONG)
def test_errors_are_reported_at_their_position(
    change: dict[str, Any], pointer: str, code: str
) -> None:
    wrong = {**GOOD, **change}

    [verdict] = verdicts_on(encoded(GOOD, wrong, GOOD))
    assert (verdict.index, verdict.locator) == (1, f"/series/1{pointer}")
    assert verdict.code == code
    assert "\0" not in verdict.detail

    [verdict] = verdicts_on(b"\n".join(map(encoded_line, (GOOD, wrong))), lines=True)
    assert (verdict.index, verdict.locator, verdict.code) == (2, pointer, code)


@pytest.mark.parametrize("missing", ["metric", "samples"])
def test_a_missing_field_is_named_at_the_object_that_lacks_it(missing: str) -> None:
    wrong = {name: value for name, value in GOOD.items() if name != missing}

    [verdict] = verdicts_on(encoded(GOOD, wrong))

    assert verdict.locator == "/series/1"
    assert verdict.code == "missing_field"
    assert missing in verdict.detail


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b"[]", "", "wrong_type"),
        (b"null", "", "wrong_type"),
        (b"NaN", "", "wrong_type"),
        (b"{}", "", "missing_field"),
        (b'{"series":[]}', "/series", "empty"),
        (b'{"series":{}}', "/series", "wrong_type"),
        (b'{"series":[1]}', "/series/0", "wrong_type"),
        (b'{"series":[{}],"more":1}', "/more", "unknown_field"),
        (json.dumps({str(n): n for n in range(1_000)}).encode(), "", "unknown_field"),
    ],
)
def test_a_document_of_another_shape_is_refused(body: bytes, pointer: str, code: str) -> None:
    verdict = verdicts_on(body)[0]

    assert (verdict.locator, verdict.code) == (pointer, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"series":[}',
        b"\xef\xbb\xbf" + encoded(GOOD),
        encoded(GOOD)[:-1],
        encoded(GOOD) + b"]",
        b'{"series":[{"metric":"\xff","samples":[[1,1]]}]}',
        b'{"series":[{"metric":"\\ud800","samples":[[1,1]]}]}',
        b'{"series":[{"metric":"a\tb","samples":[[1,1]]}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"series":[{"metric":"a","samples":[[1,' + b"1" * 5_000 + b"]]}]}",
        b'{"series":[{"metric":"a","samples":[[01,1]]}]}',
    ],
)
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_json(body, "ms", nothing_known)


def test_one_bad_sample_costs_only_itself() -> None:
    wrong = {**GOOD, "samples": [[1, 1], [2, "x"], [3, 3], ["x", "y"]]}

    decoded = decode_json(encoded(wrong), "ms", nothing_known)

    assert decoded.times.tolist() == [1, 3]
    assert decoded.locate(0, 1) == (0, "/series/0/samples/2/0")
    assert decoded.verdicts.rejected_samples == 2
    assert [verdict.locator for verdict in decoded.verdicts] == [
        "/series/0/samples/1/1",
        "/series/0/samples/3/0",
        "/series/0/samples/3/1",
    ]


@pytest.mark.parametrize("sample", [[], [1]])
def test_an_incomplete_sample_is_refused_with_what_is_missing(sample: list[int]) -> None:
    verdict = verdicts_on(encoded({**GOOD, "samples": [[1, 1], sample]}))[0]

    assert (verdict.locator, verdict.code) == ("/series/0/samples/1", "missing_field")
    assert "[time, value]" in verdict.detail


def test_all_errors_of_a_series_are_reported_at_once() -> None:
    wrong = {"metric": "9", "labels": {"8": 7, "b": 1}, "samples": [[1, "x"], [2, 2]], "y": 0}

    found = {verdict.locator: verdict.samples for verdict in verdicts_on(encoded(wrong))}

    assert found == {
        "/series/0/metric": 2,
        "/series/0/labels/8": 0,
        "/series/0/labels/b": 0,
        "/series/0/y": 0,
        "/series/0/samples/0/1": 0,
    }


def test_all_errors_of_a_flood_are_counted_and_a_hundred_kept() -> None:
    series = [{**GOOD, "samples": [["x", "y"]] * 5, "labels": {"a": 1}}] * MAX_BATCH_SERIES

    decoded = decode_json(encoded(*series), "ms", nothing_known)

    assert len(decoded.verdicts.shown) == 100
    assert decoded.verdicts.total == 11 * MAX_BATCH_SERIES
    assert decoded.verdicts.rejected_samples == MAX_BATCH_SAMPLES
    assert decoded.verdicts.samples_by_code == {"wrong_type": MAX_BATCH_SAMPLES}


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(("series", "samples"), [(MAX_BATCH_SERIES, 5), (1, MAX_BATCH_SAMPLES)])
def test_a_batch_may_be_as_large_as_promised(*, lines: bool, series: int, samples: int) -> None:
    batch = [{**GOOD, "samples": [[1, 1]] * samples}] * series
    more = [*batch, GOOD]

    if lines:
        decoded = decode_ndjson(b"\n".join(map(encoded_line, batch)), "ms")
        with pytest.raises(BatchTooLarge):
            decode_ndjson(b"\n".join(map(encoded_line, more)), "ms")
    else:
        decoded = decode_json(encoded(*batch), "ms", nothing_known)
        with pytest.raises(BatchTooLarge):
            decode_json(encoded(*more), "ms", nothing_known)
    assert len(decoded.times) == MAX_BATCH_SAMPLES


@pytest.mark.parametrize(
    "body",
    [
        encoded(*[1] * (MAX_BATCH_SERIES + 1)),
        encoded({**GOOD, "samples": ["x"] * (MAX_BATCH_SAMPLES + 1)}),
        b"[" + b"0," * 3_000_000 + b"0]",
    ],
)
def test_a_bad_batch_can_be_too_large_as_well(body: bytes) -> None:
    with pytest.raises(BatchTooLarge, match="send it in parts"):
        decode_json(body, "ms", nothing_known)


def test_a_line_that_is_not_json_spoils_no_other() -> None:
    lines = [encoded_line(GOOD), b"", b"{", b" \r", encoded_line({**GOOD, "metric": "down"})]

    result = content_of(decode_ndjson(b"\r\n".join(lines), "ms"))

    assert [name.metric for name, _ in result.series] == ["up", "down"]
    assert result.wrong == [(3, "", "malformed_json")]


@pytest.mark.parametrize("body", [b"", b"\n\n", b"  \r\n"])
def test_no_lines_are_no_batch(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="one series object a line"):
        decode_ndjson(body, "ms")


def test_metadata_is_taken_of_metrics_that_can_be_stored() -> None:
    metadata = {"type": "counter", "unit": "s", "help": "How long."}
    body = encoded({**GOOD, **metadata}, {**GOOD, **metadata, "metric": "9" * 5_000}, GOOD)

    for decoded in (decode_json(body, "ms", nothing_known), decoded_carefully(body)):
        assert decoded.metadata == {"up": Metadata("counter", "s", "How long.")}


@pytest.mark.parametrize("text", ["-0", "-0.0", "0", "1", "1.5e3", "4e-324", "123456789012345678"])
def test_a_value_is_the_double_that_was_written(text: str) -> None:
    body = f'{{"series":[{{"metric":"up","samples":[[1,{text}]]}}]}}'.encode()
    expected = 0.0 if text == "-0" else float(text)  # an integer has no negative zero

    for decoded in (decode_json(body, "ms", nothing_known), decoded_carefully(body)):
        assert decoded.values.tobytes() == struct.pack("<d", expected)


def test_an_empty_label_is_no_label() -> None:
    body = encoded({**GOOD, "labels": {"host": "", "b": "2", "a": "1"}})

    assert content_of(decode_json(body, "ms", nothing_known)).series[0][0] == SeriesName.of(
        "up", {"a": "1", "b": "2"}
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
MAYBE_SERIES = st.fixed_dictionaries(
    {},
    optional={
        "metric": st.sampled_from(["up", "9", "a\0"]) | JSON,
        "labels": st.dictionaries(st.sampled_from(["a", "[key]", "9/~"]), st.text(max_size=3))
        | JSON,
        "type": st.sampled_from(["gauge", "meter"]) | JSON,
        "help": st.text(max_size=5) | JSON,
        "samples": st.lists(
            st.lists(st.integers(0, 9) | st.floats(), min_size=2, max_size=2) | JSON, max_size=4
        )
        | JSON,
        "what": JSON,
    },
)


@given(st.lists(MAYBE_SERIES | JSON, max_size=3))
@settings(max_examples=300)
def test_all_decoders_of_a_batch_agree(series: list[Any]) -> None:
    body = json.dumps({"series": series}).encode()

    quickly = content_or_refusal(body, carefully=False)

    assert quickly == content_or_refusal(body, carefully=True)
    if isinstance(quickly, Content) and quickly.series:
        one_line = b"\n".join(map(encoded_line, series))
        by_line = content_of(decode_ndjson(one_line, "ms"))
        assert by_line.series == quickly.series
        assert [f"/series/{n - 1}{where}" for n, where, _ in by_line.wrong] == [
            where for _, where, _ in quickly.wrong
        ]


@given(st.lists(MAYBE_SERIES, max_size=3))
def test_every_sample_is_either_good_or_counted_as_rejected(series: list[Any]) -> None:
    body = json.dumps({"series": series}).encode()
    sent = sum(
        len(one["samples"])
        for one in json.loads(body)["series"]
        if isinstance(one.get("samples"), list)
    )

    result = content_or_refusal(body, carefully=True)

    if isinstance(result, Content) and series:
        good = sum(len(samples) for _, samples in result.series)
        assert good + result.rejected_samples == sent


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_break_the_decoders(body: bytes) -> None:
    for decode in (partial(decode_json, find=nothing_known), decode_ndjson):
        try:
            decoded = decode(body, "ms")
        except MalformedBody:
            continue
        assert decoded.verdicts
        assert np.array_equal(decoded.counts, [])

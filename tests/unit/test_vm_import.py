"""VictoriaMetrics' JSON lines, read."""

import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from decoding import Content, content_of
from hypothesis import given
from hypothesis import strategies as st
from stored import named

from infrawatch.errors import BatchTooLarge, InfraWatchError
from infrawatch.ingest.protocols.vm_import import decode
from infrawatch.model.samples import STALE_NAN_BITS

NOON = 1_790_000_000_000
UP = {
    "metric": {"__name__": "up", "job": "node"},
    "values": [1, 0.5],
    "timestamps": [NOON, NOON + 1],
}


def tell(*lines: Any, **extra_labels: str) -> Content:
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return content_of(decode(b"\n".join(texts), extra_labels))


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_a_line_is_a_series() -> None:
    down = {"metric": {"__name__": "down"}, "values": [-1e300], "timestamps": [0], "more": 1}

    assert tell(UP, b"", down, b"\r").series == [
        (named("up", job="node"), [(NOON, bits(1)), (NOON + 1, bits(0.5))]),
        (named("down"), [(0, bits(-1e300))]),
    ]


def test_null_is_a_stale_marker_and_special_numbers_are_texts() -> None:
    line = {**UP, "values": [None, "Infinity", "-Inf", 1.5], "timestamps": [1, 2, 3, 4]}

    assert [value for _, value in tell(line).series[0][1]] == [
        struct.pack("<Q", STALE_NAN_BITS),
        bits(float("inf")),
        bits(float("-inf")),
        bits(1.5),
    ]


def test_extra_labels_are_added_to_every_series_and_win() -> None:
    other = {**UP, "metric": {"__name__": "up"}}

    assert [name for name, _ in tell(UP, other, job="x", host="a").series] == [
        named("up", job="x", host="a")
    ] * 2


@pytest.mark.parametrize(
    ("line", "code", "samples"),
    [
        (b"{", "malformed_json", 1),
        (b"[]", "wrong_type", 1),
        (b"\xff", "malformed_json", 1),
        ({"metric": {"__name__": "up"}, "values": [1]}, "missing_field", 1),
        ({**UP, "values": []}, "empty", 1),
        ({**UP, "values": [1]}, "length_mismatch", 1),
        ({**UP, "values": [1, True]}, "wrong_type", 1),
        ({**UP, "values": [1, "1.5"]}, "wrong_type", 1),
        (b'{"metric":{"__name__":"up"},"values":[1e999],"timestamps":[1]}', "wrong_type", 1),
        ({**UP, "timestamps": [1, 2.5]}, "wrong_type", 1),
        ({**UP, "timestamps": [1, 2**63]}, "wrong_type", 1),
        ({**UP, "metric": {"__name__": "up", "job": 1}}, "wrong_type", 1),
        ({**UP, "metric": {"job": "x"}}, "invalid_metric", 2),
        ({**UP, "metric": {"__name__": "a\n"}}, "invalid_metric", 2),
        ({**UP, "metric": {"__name__": "up", "a": "\0"}}, "invalid_label_value", 2),
    ],
)
def test_a_bad_line_is_named_and_the_good_ones_are_read(line: Any, code: str, samples: int) -> None:
    told_of = tell(UP, line, UP)

    assert [name for name, _ in told_of.series] == [named("up", job="node")] * 2
    assert [(number, code) for number, _, code in told_of.wrong] == [(2, code)]
    assert told_of.rejected_samples == samples


def test_a_verdict_points_into_its_line() -> None:
    told_of = tell(b"", {**UP, "values": [1, True]}, UP)

    assert [locator for _, locator, _ in told_of.wrong] == ["line 2, /values/1"]
    assert told_of.pointers == ["line 3, /timestamps/0", "line 3, /timestamps/1"]


def test_a_request_too_large_for_one_commit_is_refused() -> None:
    too_many = {**UP, "values": [1] * 1_000_001, "timestamps": [1] * 1_000_001}

    for body in (b"\n" * 100_001, json.dumps(too_many).encode()):
        with pytest.raises(BatchTooLarge):
            decode(body, {})


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(InfraWatchError):
        content_of(decode(body, {}))

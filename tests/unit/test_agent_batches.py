"""Batches: made of readings, merged, halved, and their refusals counted."""

import gzip
import json
import math
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infrawatch.agent.batches import Encoder, count_refused, halves, merged
from infrawatch.agent.readings import Reading, counter, gauge
from infrawatch.client.series import Receipt, Verdict

LOAD = gauge("node_load1", "1m load average.")
FREE = gauge("node_filesystem_free_bytes", "Free space.", "mountpoint")


def test_a_batch_has_all_metadata_once_and_then_only_changes() -> None:
    encoder = Encoder({"instance": "web-1", "job": "node"})
    labels = {"instance": "web-1", "job": "node", "mountpoint": "/"}
    described = {"type": "gauge", "unit": "bytes", "help": "Free space."}
    plain = {"metric": FREE.metric, "labels": labels}

    assert encoded(encoder, Reading(FREE, 5, ("/",)), time_ms=1000) == [
        plain | described | {"samples": [[1000, 5.0]]}
    ]
    assert encoded(encoder, Reading(FREE, 6, ("/",)), time_ms=6000) == [
        plain | {"samples": [[6000, 6.0]]}
    ]
    [again] = encoded(encoder, Reading(FREE, 7, ("/",)), time_ms=601_000)
    assert again["help"] == "Free space."


def test_units_are_those_that_names_end_with() -> None:
    assert counter("node_disk_read_bytes_total", "").unit == "bytes"
    assert gauge("node_time_seconds", "").unit == "seconds"
    assert LOAD.unit is None


def test_characters_that_labels_may_not_contain_are_replaced() -> None:
    undecodable = os.fsdecode(b"/mnt/\xff")
    [series] = encoded(Encoder({"instance": "a\0b"}), Reading(FREE, 1, (undecodable + "x" * 5000,)))

    assert series["labels"]["instance"] == "a\N{REPLACEMENT CHARACTER}b"
    assert series["labels"]["mountpoint"].startswith("/mnt/\N{REPLACEMENT CHARACTER}xx")
    assert len(series["labels"]["mountpoint"]) == 4096


def test_the_first_of_two_readings_of_a_series_stays() -> None:
    one, other = os.fsdecode(b"/\xfe"), os.fsdecode(b"/\xff")
    series = encoded(Encoder({}), Reading(FREE, 1, (one,)), Reading(FREE, 2, (other,)))
    assert [one["samples"] for one in series] == [[[0, 1.0]]]


def test_values_that_json_does_not_know_are_left_out() -> None:
    assert not Encoder({}).encode([Reading(LOAD, math.nan), Reading(LOAD, math.inf)], time_ms=0)
    assert encoded(Encoder({}), Reading(LOAD, True))[0]["samples"] == [[0, 1.0]]


def test_own_labels_go_before_those_of_the_user_and_empty_ones_are_none() -> None:
    [series] = encoded(Encoder({"mountpoint": "mine", "zone": ""}), Reading(FREE, 1, ("/",)))
    assert series["labels"] == {"mountpoint": "/"}


def test_a_batch_holds_no_more_series_than_a_server_takes() -> None:
    readings = [Reading(FREE, 1, (str(number),)) for number in range(25_000)]
    bodies = Encoder({}).encode(readings, time_ms=0)
    assert [body.samples for body in bodies] == [10_000, 10_000, 5_000]


Batches = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(allow_nan=False, allow_infinity=False)),
    min_size=1,
)


@given(Batches)
def test_merging_keeps_every_sample_in_order(batches: list[dict[str, float]]) -> None:
    encoder = Encoder({})
    bodies = [
        body.json_gzip
        for time_ms, values in enumerate(batches)
        for body in encoder.encode(
            [Reading(FREE, value, (name,)) for name, value in values.items()], time_ms=time_ms
        )
    ]
    whole = merged(bodies)
    expected: dict[str, list[list[float]]] = {}
    for time_ms, values in enumerate(batches):
        for name, value in values.items():
            expected.setdefault(name, []).append([time_ms, value])

    series = read(whole.json_gzip)
    assert {one["labels"]["mountpoint"]: one["samples"] for one in series} == expected
    assert len(series) == len(expected)
    assert whole.samples == sum(map(len, batches))


def test_halves_make_up_the_whole_and_a_single_series_has_none() -> None:
    [body] = Encoder({}).encode([Reading(FREE, n, (str(n),)) for n in range(5)], time_ms=0)
    parts = halves(body.json_gzip)

    assert [part.samples for part in parts] == [2, 3]
    assert [one for part in parts for one in read(part.json_gzip)] == read(body.json_gzip)
    [single] = Encoder({}).encode([Reading(LOAD, 1)], time_ms=0)
    assert halves(single.json_gzip) == ()


def test_refusals_are_counted_by_sample_series_and_beyond_the_list() -> None:
    encoder = Encoder({})
    bodies = [encoder.encode([Reading(LOAD, 1)], time_ms=time_ms)[0] for time_ms in range(3)]
    verdicts = (
        Verdict(pointer="/series/0/samples/1/0", code="too_old"),
        Verdict(pointer="/series/0/samples/1", code="other"),
        Verdict(pointer="", code="of_the_whole"),
        Verdict(pointer="/series/7/metric", code="not_ours"),
    )
    whole = merged([body.json_gzip for body in bodies]).json_gzip

    receipt = Receipt(accepted=2, rejected=1, errors=verdicts)
    assert count_refused(whole, receipt) == {"too_old": 1}
    receipt = Receipt(accepted=0, rejected=3, errors=verdicts[:1])
    assert count_refused(whole, receipt) == {"too_old": 1, "unlisted": 2}
    receipt = Receipt(
        accepted=0, rejected=3, errors=(Verdict(pointer="/series/0/labels/x", code="bad_label"),)
    )
    assert count_refused(whole, receipt) == {"bad_label": 3}


def encoded(encoder: Encoder, *readings: Reading, time_ms: int = 0) -> list[dict[str, Any]]:
    [body] = encoder.encode(readings, time_ms=time_ms)
    return read(body.json_gzip)


def read(body: bytes) -> list[dict[str, Any]]:
    series: list[dict[str, Any]] = json.loads(gzip.decompress(body))["series"]
    return series

"""Times a sample may have, in every unit, to the last nanosecond; and how refusals are counted."""

from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.ingest.bounds import TimeBounds, to_us
from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.verdicts import MAX_SHOWN, Verdict, Verdicts
from infrawatch.model.timerange import FAR_FUTURE_US, US, duration_us

NOW_US = 1_790_000_000 * US + 123_457
UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
RETENTION, MAX_FUTURE = timedelta(days=15), timedelta(minutes=10)
BOUNDS = TimeBounds(RETENTION, timedelta.max, MAX_FUTURE, lambda: NOW_US)
EDGES_US = (NOW_US - duration_us(RETENTION), NOW_US + duration_us(MAX_FUTURE))
UNITS = st.sampled_from(sorted(UNITS_NS.values()))
TIMES = st.integers(-(2**63), 2**63 - 1) | st.integers(-2_000, 2_000)
"""Small ones are taken as distances from an edge."""


def decoded(times: list[int], unit_ns: int, counts: list[int] | None = None) -> Decoded:
    counts = [len(times)] if counts is None else counts
    return Decoded(
        keys=[str(n) for n in range(len(counts))],
        name_of=lambda n: pytest.fail(f"nobody asks for the name of {n}"),
        locate=lambda series, sample: (series, f"/series/{series}/samples/{sample}/0"),
        counts=np.array(counts, np.intp),
        times=np.array(times, np.int64),
        values=np.zeros(len(times)),
        unit_ns=unit_ns,
    )


@given(st.lists(TIMES, min_size=1), UNITS, st.sampled_from(EDGES_US))
def test_bounds_are_exact_in_every_unit(times: list[int], unit_ns: int, edge_us: int) -> None:
    edge = edge_us * 1_000 // unit_ns
    times = [edge + time if abs(time) <= 2_000 else time for time in times]
    earliest_us, latest_us = EDGES_US
    is_old = [time * unit_ns < earliest_us * 1_000 for time in times]
    is_future = [time * unit_ns > latest_us * 1_000 for time in times]
    batch = decoded(times, unit_ns)

    kept = BOUNDS.check(batch)

    wrong = [old or future for old, future in zip(is_old, is_future, strict=True)]
    assert (kept is None) == (not any(wrong))
    assert kept is None or kept.tolist() == [not one for one in wrong]
    assert batch.verdicts.samples_by_code["too_old"] == sum(is_old)
    assert batch.verdicts.samples_by_code["too_far_in_future"] == sum(is_future)
    assert batch.verdicts.total == batch.verdicts.rejected_samples == sum(wrong)


@given(TIMES, UNITS)
def test_finer_times_are_floored(time: int, unit_ns: int) -> None:
    expected = time * unit_ns // 1_000
    if abs(expected) < 2**63:
        assert to_us(np.array([time], np.int64), unit_ns).tolist() == [expected]


def test_each_refused_time_is_reported_with_its_position() -> None:
    now = NOW_US // US
    batch = decoded([now, 1, now, now + 10**6, 2], UNITS_NS["s"], counts=[1, 0, 2, 2])

    kept = BOUNDS.check(batch)

    assert kept is not None
    assert kept.tolist() == [True, False, True, False, False]
    assert {(one.locator, one.code) for one in batch.verdicts} == {
        ("/series/2/samples/0/0", "too_old"),
        ("/series/3/samples/0/0", "too_far_in_future"),
        ("/series/3/samples/1/0", "too_old"),
    }
    details = " ".join(one.detail for one in batch.verdicts)
    assert "INFRAWATCH_RETENTION" in details
    assert "INFRAWATCH_MAX_FUTURE" in details


def test_samples_already_refused_get_no_second_verdict() -> None:
    batch = decoded([1, 2, NOW_US // US], UNITS_NS["s"])
    before = np.array([True, False, False])

    kept = BOUNDS.check(batch, before)

    assert kept is not None
    assert kept.tolist() == [False, False, False]
    assert batch.verdicts.rejected_samples == 1
    assert BOUNDS.check(decoded([1], 1_000_000), np.array([False])) is not None


@pytest.mark.parametrize(
    "retention", [None, timedelta(days=365 * 100), timedelta(days=365 * 5_000), timedelta.max]
)
def test_nothing_before_1970_or_beyond_2200_is_ever_kept(retention: timedelta | None) -> None:
    bounds = TimeBounds(retention, timedelta.max, timedelta.max, lambda: NOW_US)
    batch = decoded([-1, 0, FAR_FUTURE_US - 1, FAR_FUTURE_US], UNITS_NS["us"])

    kept = bounds.check(batch)

    assert kept is not None
    assert kept.tolist() == [False, True, True, False]
    assert [one.code for one in batch.verdicts] == ["too_old", "too_far_in_future"]


@pytest.mark.parametrize(
    ("retention", "max_past", "setting"),
    [
        (None, timedelta(days=730), "INFRAWATCH_MAX_PAST"),
        (timedelta(days=731), timedelta(days=730), "INFRAWATCH_MAX_PAST"),
        (timedelta(days=730), timedelta(days=731), "INFRAWATCH_RETENTION"),
        (timedelta(days=730), timedelta(days=730), "INFRAWATCH_RETENTION"),
    ],
)
def test_the_days_that_can_be_sent_are_bounded_whatever_the_retention(
    retention: timedelta | None, max_past: timedelta, setting: str
) -> None:
    bounds = TimeBounds(retention, max_past, MAX_FUTURE, lambda: NOW_US)
    day_s = 86_400
    batch = decoded([NOW_US // 10**6 - days * day_s for days in (729, 732)], UNITS_NS["s"])

    kept = bounds.check(batch)

    assert kept is not None
    assert kept.tolist() == [True, False]
    [refusal] = batch.verdicts
    assert (refusal.code, setting in refusal.detail) == ("too_old", True)


def refused(count: int, code: str = "bad", samples: int = 1) -> Verdicts:
    verdicts = Verdicts()
    for number in range(count):
        verdicts.add(Verdict(number, f"/{number}", code, "why", samples))
    return verdicts


@given(st.integers(0, 250), st.integers(0, 3))
def test_all_verdicts_are_counted_and_the_first_are_kept(count: int, samples: int) -> None:
    verdicts = refused(count, samples=samples)

    assert verdicts.total == count
    assert [one.index for one in verdicts] == list(range(min(count, MAX_SHOWN)))
    assert verdicts.is_full == (count >= MAX_SHOWN)
    assert bool(verdicts) == (count > 0)
    assert verdicts.rejected_samples == count * samples


@pytest.mark.parametrize("shown", [0, 40, MAX_SHOWN])
def test_a_flood_of_wrong_times_is_counted_in_full(shown: int) -> None:
    batch = decoded([1] * 50_000, UNITS_NS["s"])
    batch.verdicts = refused(shown)

    BOUNDS.check(batch)

    assert batch.verdicts.total == shown + 50_000
    assert len(list(batch.verdicts)) == MAX_SHOWN
    assert batch.verdicts.samples_by_code == Counter(bad=shown, too_old=50_000)

"""Runs in one flat array: gathering and counting them, compared with doing it one by one."""

import math
import struct

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from infrawatch.store.columns.ragged import Runs
from infrawatch.store.columns.varbits import are_odd

LENGTHS = st.one_of(
    st.lists(st.integers(1, 5), min_size=1, max_size=20),
    st.integers(1, 5).flatmap(lambda width: st.lists(st.just(width), min_size=1, max_size=20)),
)

LEAST = 2.0**-970
"""The least double that SQL can reassemble from its bits."""


def cut(lengths: list[int], total: int) -> Runs:
    """Divide so many numbers into runs of these lengths, repeated as often as needed."""
    is_first = np.zeros(total, np.bool_)
    is_first[[place for place in np.cumsum([0, *lengths]).tolist() if place < total]] = True
    return Runs.beginning(is_first)


@given(LENGTHS, st.integers(0, 99), st.integers(0, 3))
def test_runs_are_gathered_in_their_order(lengths: list[int], seed: int, offset: int) -> None:
    numbers = np.arange(offset + sum(lengths) + 3)
    order = np.random.default_rng(seed).permutation(len(lengths))
    runs = Runs(Runs.of(np.array(lengths)).starts + offset, np.array(lengths)).picked(order)

    gathered = runs.gathered(numbers).tolist()

    assert gathered == [
        number
        for start, count in zip(runs.starts.tolist(), runs.counts.tolist(), strict=True)
        for number in range(start, start + count)
    ]
    whole = Runs.of(np.array(lengths)).picked(order)
    assert whole.gathered(numbers[: sum(lengths)]).tolist() == whole.positions().tolist()


def test_no_runs_gather_nothing() -> None:
    none = Runs.of(np.zeros(0, np.int64))

    assert none.gathered(np.arange(3)).tolist() == []


@given(LENGTHS, LENGTHS)
def test_a_run_is_overlapped_if_it_shares_a_number(lengths: list[int], others: list[int]) -> None:
    runs = Runs.of(np.array(lengths))
    pieces = cut(others, runs.total)
    run_of = runs.spread(np.arange(len(lengths))).tolist()

    overlapped = runs.overlapped_by(pieces).tolist()

    assert overlapped == [
        len(set(run_of[start : start + count]))
        for start, count in zip(pieces.starts.tolist(), pieces.counts.tolist(), strict=True)
    ]


@given(st.lists(st.integers(0, 9), max_size=9))
def test_runs_reach_to_the_next_one_and_the_end(starts: list[int]) -> None:
    column = np.array(sorted(starts), np.int64)

    assert Runs.at(column, 10).counts.tolist() == np.diff(column, append=10).tolist()


@given(LENGTHS, st.data())
def test_a_run_is_uneven_if_any_step_differs_from_the_first(
    lengths: list[int], data: st.DataObject
) -> None:
    numbers = data.draw(st.lists(st.integers(0, 3), min_size=sum(lengths), max_size=sum(lengths)))
    runs = Runs.of(np.array(lengths))

    steps, is_uneven = runs.steps(np.array(numbers))

    every = [
        np.diff(numbers[start : start + count]).tolist()
        for start, count in zip(runs.starts.tolist(), lengths, strict=True)
    ]
    assert steps.tolist() == [one[0] if one else 0 for one in every]
    assert is_uneven.tolist() == [len(set(one)) > 1 for one in every]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
@example([0, -(2**63), 1, 2047 << 52, (2047 << 52) - 1, (53 << 52) - 1, 53 << 52, 2 << 52])
def test_a_double_is_odd_if_it_is_not_finite_or_close_to_zero(bits: list[int]) -> None:
    doubles = struct.unpack(f"{len(bits)}d", struct.pack(f"{len(bits)}q", *bits))

    found = are_odd(np.array(bits, np.int64)).tolist()

    assert found == [not math.isfinite(one) or 0 < abs(one) < LEAST for one in doubles]

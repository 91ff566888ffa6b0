"""The bytes a group is stored with, read back the way PostgreSQL reads them."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.labels import shard_of
from infrawatch.model.samples import STALE_NAN_BITS, Columns
from infrawatch.store import copy, journal
from infrawatch.store.journal import ROW_SAMPLES, Entry

INTEGERS = {2: ">h", 4: ">i", 8: ">q"}
BITS = st.integers(-(2**63), 2**63 - 1)
SAMPLES = st.lists(
    st.tuples(st.integers(0, 2**63 - 1), st.integers(-(2**60), 2**60), BITS), min_size=1
)


def rows(entry: Entry) -> Iterator[dict[str, Any]]:
    """What PostgreSQL makes of them ("Binary Format" of COPY; varbit_recv, array_recv), as bits."""
    sent = b"".join(journal._rows(entry))
    place = 0

    def take(form: str) -> tuple[int, ...]:
        nonlocal place
        values = struct.unpack_from(form, sent, place)
        place += struct.calcsize(form)
        return values

    def array() -> list[int]:
        dimensions, has_null, element_type, count, lower = take(">iiiii")
        assert (dimensions, has_null, element_type, lower) == (1, 0, copy.FLOAT8_OID, 1)
        elements = [take(">iq") for _ in range(count)]
        assert all(size == 8 for size, _ in elements)
        return [bits for _, bits in elements]

    while place < len(sent):
        assert take(">h") == (len(journal.COLUMNS),)
        row: dict[str, Any] = {}
        for name in journal.COLUMNS:
            [length] = take(">i")
            end = place + max(length, 0)
            if name in ("series_ids", "times", "values"):
                [bits] = take(">i")
                row[name] = list(take(f">{bits // 64}q"))
            elif name == "odd":
                row[name] = None if length == -1 else array()
            else:
                [row[name]] = take(INTEGERS[length])
            assert place == end
        yield row


def entry(samples: list[tuple[int, int, int]]) -> Entry:
    ids, times, bits = (np.array(column, np.int64) for column in zip(*samples, strict=True))
    columns = Columns(ids, times + copy.PG_EPOCH_US, bits.view(np.float64))
    return Entry(writer=7, seq=3, at_us=copy.PG_EPOCH_US + 5, columns=columns)


@given(SAMPLES)
def test_a_group_is_one_row_a_shard_in_order_of_arrival(
    samples: list[tuple[int, int, int]],
) -> None:
    expected: dict[int, list[tuple[int, int, int]]] = {}
    for sample in samples:
        expected.setdefault(shard_of(sample[0]), []).append(sample)

    found = list(rows(entry(samples)))

    assert [row["shard"] for row in found] == sorted(expected)
    for row in found:
        assert (row["first"], row["samples"]) == (0, len(row["times"]))
        stored = list(zip(row["series_ids"], row["times"], row["values"], strict=True))
        assert stored == expected[row["shard"]], "bits and order survive"
        assert (row["writer"], row["seq"], row["arrived_at"]) == (7, 3, 5)
        assert (row["min_at"], row["max_at"]) == (min(row["times"]), max(row["times"]))


def test_the_bits_of_every_nan_survive() -> None:
    patterns = [STALE_NAN_BITS, 0x7FF8000000000001, 0x7FF0000000000001, -(2**63)]

    [row] = rows(entry([(64, 0, bits) for bits in patterns]))

    assert row["values"] == patterns
    assert row["odd"] == patterns


def test_what_is_too_much_for_a_page_is_cut_into_rows_that_know_their_place() -> None:
    samples = [(64 + shard, n, n) for n in range(2 * ROW_SAMPLES + 7) for shard in (0, 5)]

    found = list(rows(entry(samples)))

    places = [(row["shard"], row["first"], row["samples"]) for row in found]
    whole = [0, ROW_SAMPLES, 2 * ROW_SAMPLES], [ROW_SAMPLES, ROW_SAMPLES, 7]
    assert places == [(shard, *row) for shard in (0, 5) for row in zip(*whole, strict=True)]
    assert [time for row in found[:3] for time in row["times"]] == list(range(2 * ROW_SAMPLES + 7))


@given(st.lists(BITS))
def test_what_was_written_as_elements_is_read_as_elements(bits: list[int]) -> None:
    sent = copy.to_elements(np.array(bits, np.int64)).tobytes()

    assert copy.from_joined_elements(sent).tolist() == bits

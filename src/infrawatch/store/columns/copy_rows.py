"""Rows of binary COPY, built for all rows at once: fixed fields, nullable fields and arrays.

Source: PostgreSQL documentation, COPY, "Binary Format"; array_recv in
src/backend/utils/adt/arrayfuncs.c for the layout of arrays.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from infrawatch.model.samples import Bools, Int64s
from infrawatch.store.columns import copy
from infrawatch.store.columns.ragged import Runs

_UNIT = np.dtype(np.uint32)
"""The length of every part of a row is a multiple of this unit's."""

_NULL = 0xFFFFFFFF
_ARRAY_HEADER = np.dtype(
    [(name, ">i4") for name in ("bytes", "dimensions", "has_null", "type", "elements", "first")]
)
_HEADER_UNITS = _ARRAY_HEADER.itemsize // _UNIT.itemsize
_ELEMENT_UNITS = copy.ELEMENT.itemsize // _UNIT.itemsize


class Part(Protocol):
    """Some adjacent fields of all rows."""

    def sizes(self) -> Int64s:
        """Return the units the fields take in each row; one per field where all are NULL."""

    def place(self, rows: NDArray[np.uint32], starts: Int64s) -> None:
        """Write the fields at their start in each row, except NULLs, which are prefilled."""


def joined(parts: Sequence[Part]) -> bytes:
    """Return the rows, concatenated, without the stream's header and trailer."""
    sizes = np.column_stack([part.sizes() for part in parts])
    starts = (np.cumsum(sizes) - sizes.reshape(-1)).reshape(sizes.shape)
    rows = np.full(int(sizes.sum()), _NULL, _UNIT)
    for column, part in enumerate(parts):
        part.place(rows, starts[:, column])
    return rows.tobytes()


class Fields(NamedTuple):
    """Fields of fixed length, all of them NULL in rows where `is_there` is false."""

    records: NDArray[np.void]
    is_there: Bools
    nulls: int

    @classmethod
    def of(cls, kinds: Mapping[str, str], columns: Mapping[str, Int64s], is_there: Bools) -> Self:
        """Fields of these numpy types; `columns` has an entry for every row."""
        records = np.empty(np.count_nonzero(is_there), _after_lengths(kinds))
        _fill(records, kinds, {name: columns[name][is_there] for name in kinds})
        return cls(records, is_there, len(kinds))

    @classmethod
    def first(cls, kinds: Mapping[str, str], columns: Mapping[str, Int64s], fields: int) -> Self:
        """The first fields of every row, never NULL, preceded by the row's number of fields."""
        rows = len(columns[next(iter(kinds))])
        records = np.empty(rows, [("fields", ">i2"), *_after_lengths(kinds)])
        records["fields"] = fields
        _fill(records, kinds, columns)
        return cls(records, np.ones(rows, np.bool_), len(kinds))

    def sizes(self) -> Int64s:
        units = self.records.itemsize // _UNIT.itemsize
        return np.where(self.is_there, units, self.nulls)

    def place(self, rows: NDArray[np.uint32], starts: Int64s) -> None:
        _place(rows, starts[self.is_there], self.records)


class Arrays(NamedTuple):
    """An array column of 8-byte values: the count of each row, and the bits of all, in order.

    Empty arrays are NULL.
    """

    type_oid: int
    counts: Int64s
    bits: Int64s

    def sizes(self) -> Int64s:
        return np.where(self.counts == 0, 1, _HEADER_UNITS + _ELEMENT_UNITS * self.counts)

    def place(self, rows: NDArray[np.uint32], starts: Int64s) -> None:
        filled = np.flatnonzero(self.counts)
        counts, starts = self.counts[filled], starts[filled]
        headers = np.empty(len(filled), _ARRAY_HEADER)
        headers["bytes"] = copy.ARRAY_HEADER.size + copy.ELEMENT.itemsize * counts
        headers["dimensions"], headers["has_null"], headers["first"] = 1, 0, 1
        headers["type"], headers["elements"] = self.type_oid, counts
        _place(rows, starts, headers)
        elements = Runs(starts + _HEADER_UNITS, counts * _ELEMENT_UNITS)
        rows[elements.positions()] = copy.to_elements(self.bits).view(_UNIT)


def _after_lengths(kinds: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the layout of fields in a row, each preceded by its length in bytes."""
    return [
        part for name, kind in kinds.items() for part in ((f"{name} bytes", ">i4"), (name, kind))
    ]


def _fill(
    records: NDArray[np.void], kinds: Mapping[str, str], columns: Mapping[str, Int64s]
) -> None:
    for name, kind in kinds.items():
        records[f"{name} bytes"] = np.dtype(kind).itemsize
        records[name] = columns[name]


def _place(rows: NDArray[np.uint32], starts: Int64s, records: NDArray[np.void]) -> None:
    units = records.view(_UNIT).reshape(len(records), records.itemsize // _UNIT.itemsize)
    rows[starts[:, np.newaxis] + np.arange(units.shape[1])] = units

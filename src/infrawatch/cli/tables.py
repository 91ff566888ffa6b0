"""Tables for terminals and programs: columns separated by blanks."""

from collections.abc import Sequence
from datetime import UTC, datetime


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print heads and rows in columns of the necessary width."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def to_cell(time: datetime | None) -> str:
    """Format a time to the second, in UTC; `-` for None."""
    return "-" if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

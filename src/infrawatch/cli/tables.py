"""Tables on a terminal, which programs can read too: columns with blanks between them."""

from collections.abc import Sequence
from datetime import UTC, datetime


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print heads and rows in columns as wide as they need."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def to_cell(time: datetime | None) -> str:
    """A time to the second, in UTC; `-` for none."""
    return "-" if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

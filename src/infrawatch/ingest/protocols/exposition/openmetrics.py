"""OpenMetrics: how it differs from the text format.

Source: OpenMetrics 1.0.0. Times are in seconds, a sample may have an exemplar behind it, types and
help are of families, whose samples have suffixes, and a page ends with `# EOF`.
"""

import re
from collections.abc import Mapping

from infrawatch.store.metadata import Metadata

MEDIA_TYPE = "application/openmetrics-text"

END = b"# EOF"

TYPES = {
    b"counter": "counter",
    b"gauge": "gauge",
    b"histogram": "histogram",
    b"gaugehistogram": "histogram",
    b"stateset": "gauge",
    b"info": "gauge",
    b"summary": "summary",
    b"unknown": "unknown",
}

_SUFFIXES = {b"counter": "_total", b"info": "_info"}
"""Of the series that a family's type and help describe; those of other types have its name."""

_SECONDS = re.compile(rb"[+-]?(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:e[+-]?[0-9]++)?+", re.IGNORECASE)
_US = 1_000_000


def find_time_us(text: bytes) -> float | None:
    """Read a time; infinite if it is beyond float64, None if it is not a number of seconds."""
    return float(text) * _US if _SECONDS.fullmatch(text) else None


def without_exemplar(numbers: bytes) -> bytes:
    """Return value and time alone; a label's value cannot be among what is cut off."""
    return numbers.partition(b"#")[0]


def by_series(families: Mapping[str, Metadata], types: Mapping[str, bytes]) -> dict[str, Metadata]:
    """Return the metadata of families by the names of the series it describes."""
    return {
        _with_suffix(family, _SUFFIXES.get(types.get(family, b""), "")): metadata
        for family, metadata in families.items()
    }


def _with_suffix(family: str, suffix: str) -> str:
    return family if family.endswith(suffix) else family + suffix

"""Metadata of metrics in remote write: type, unit, help."""

from infrawatch.ingest.decoding.names import MAX_NAME_CHARACTERS, Flaw, to_series_name
from infrawatch.ingest.protocols.remote_write.labels import to_text
from infrawatch.store.metadata import Metadata

_TYPES = ("unknown", "counter", "gauge", "histogram", "histogram", "summary", "gauge", "gauge")
"""Types by number: both versions count unspecified, counter, gauge, histogram, gaugehistogram,
summary, info, stateset. The samples of infos and state sets are gauges."""

_MAX_CHARACTERS = 1_024
"""Limit for unit and help, as in the native format."""


def read_metric(metric: bytes) -> str | Flaw:
    """Read the name of a metric."""
    name = to_text(metric)
    if name.isprintable() and 0 < len(name) <= MAX_NAME_CHARACTERS:  # usual, and cheap
        return name
    checked = to_series_name(name, ())
    return checked if isinstance(checked, Flaw) else checked.metric


def to_metadata(type_number: int, unit: bytes, help_text: bytes) -> Metadata:
    """Create metadata; texts are only read by people, so they are made storable if necessary."""
    is_known = 0 <= type_number < len(_TYPES)
    return Metadata(
        type=_TYPES[type_number] if is_known else "unknown",
        unit=_to_storable(unit),
        help=_to_storable(help_text),
    )


def _to_storable(text: bytes) -> str:
    return text.decode(errors="replace").replace("\0", "")[:_MAX_CHARACTERS]

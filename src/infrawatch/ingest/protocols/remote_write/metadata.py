"""What remote write says of metrics beside their samples: type, unit, help."""

from infrawatch.ingest.names import MAX_NAME_CHARACTERS, Flaw, to_series_name
from infrawatch.ingest.protocols.remote_write.labels import to_text
from infrawatch.store.metadata import Metadata

_TYPES = ("unknown", "counter", "gauge", "histogram", "histogram", "summary", "gauge", "gauge")
"""By number: both versions count unspecified, counter, gauge, histogram, gaugehistogram, summary,
info, stateset. Infos and state sets are gauges to whoever asks for their samples."""

_MAX_CHARACTERS = 1_024
"""Of unit and help; as in the native format."""


def read_metric(metric: bytes) -> str | Flaw:
    """The name of a metric."""
    name = to_text(metric)
    if name.isprintable() and 0 < len(name) <= MAX_NAME_CHARACTERS:  # nearly always, and cheap
        return name
    checked = to_series_name(name, ())
    return checked if isinstance(checked, Flaw) else checked.metric


def to_metadata(type_number: int, unit: bytes, help_text: bytes) -> Metadata:
    """Metadata are for people: a text that cannot be stored as it is becomes one that can."""
    is_known = 0 <= type_number < len(_TYPES)
    return Metadata(
        type=_TYPES[type_number] if is_known else "unknown",
        unit=_to_storable(unit),
        help=_to_storable(help_text),
    )


def _to_storable(text: bytes) -> str:
    return text.decode(errors="replace").replace("\0", "")[:_MAX_CHARACTERS]

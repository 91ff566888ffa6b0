"""What remote write says of metrics beside their samples: type, unit, help."""

from infrawatch.store.metadata import Metadata

_TYPES = ("unknown", "counter", "gauge", "histogram", "histogram", "summary", "gauge", "gauge")
"""By number: both versions count unspecified, counter, gauge, histogram, gaugehistogram, summary,
info, stateset. Infos and state sets are gauges to whoever asks for their samples."""

_MAX_CHARACTERS = 1_024
"""Of unit and help; as in the native format."""


def to_metadata(type_number: int, unit: bytes, help_text: bytes) -> Metadata:
    """Metadata are for people: a text that cannot be stored as it is becomes one that can."""
    is_known = 0 <= type_number < len(_TYPES)
    return Metadata(
        type=_TYPES[type_number] if is_known else "unknown",
        unit=_to_text(unit),
        help=_to_text(help_text),
    )


def _to_text(text: bytes) -> str:
    return text.decode(errors="replace").replace("\0", "")[:_MAX_CHARACTERS]

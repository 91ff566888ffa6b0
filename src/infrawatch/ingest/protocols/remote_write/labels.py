"""Labels in remote write: pairs of a name and a value, including the metric's name."""

import json
from collections.abc import Sequence

from infrawatch.ingest.decoding.names import Flaw, to_series_name
from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.model.labels import SeriesName
from infrawatch.model.selector import METRIC_LABEL

Pairs = Sequence[tuple[str, str]]
"""As decoded by `to_text`."""

METRIC = METRIC_LABEL.encode()

MAX_PAIRS = MAX_LABELS + 1
"""Includes the metric's name, and empty labels, which the specifications do not allow anyway."""

TOO_MANY = Flaw("too_many_labels", f"at most {MAX_LABELS} labels")

_BROKEN = "surrogateescape"
"""Decodes invalid UTF-8 to lone surrogates, which are refused in all names and values."""

_SHOWN_CHARACTERS = 120
"""Enough to distinguish series, short enough for a sender's log."""


def read_name(pairs: Pairs) -> SeriesName | Flaw:
    """Return the canonical name of a series, for labels in any order, or its first flaw."""
    labels = dict(pairs)
    metric = labels.pop(METRIC_LABEL, None)
    if metric is None:
        return Flaw("invalid_metric", "the label __name__, which names the metric, is missing")
    if len(labels) + 1 == len(pairs):  # no name is there twice
        return to_series_name(metric, labels.items())
    if [name for name, _ in pairs].count(METRIC_LABEL) > 1:
        return Flaw("duplicate_label", "the label __name__ is there more than once")
    return to_series_name(metric, [one for one in pairs if one[0] != METRIC_LABEL])


def describe(pairs: Pairs) -> str:
    """Format a series in the usual notation, in ASCII, truncated for a log line."""
    metric = next((_quoted(value) for name, value in pairs if name == METRIC_LABEL), "")
    labels = [
        f'{_quoted(name)}="{_quoted(value)}"' for name, value in pairs if name != METRIC_LABEL
    ]
    text = f"{metric}{{{','.join(labels)}}}" if labels else metric
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def to_text(text: bytes) -> str:
    """Decode UTF-8; invalid bytes become lone surrogates."""
    return text.decode(errors=_BROKEN)


def _quoted(text: str) -> str:
    return json.dumps(text)[1:-1]

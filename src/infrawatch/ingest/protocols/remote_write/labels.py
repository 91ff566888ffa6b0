"""Labels in remote write: pairs of a name and a value, including the metric's name."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from infrawatch.ingest.decoding.names import (
    Flaw,
    find_plain_labels,
    is_plain_metric,
    to_series_name,
)
from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.model.labels import Labels, SeriesName
from infrawatch.model.selector import METRIC_LABEL

Pairs = Sequence[tuple[str, str]]
"""As decoded by `to_text`."""

ToPairs = Callable[[bytes], Pairs]
"""Reads the labels that a key, or a part of one, stands for.

Raises:
    ValueError: it is not valid.
"""


class KeyForm(NamedTuple):
    """How a version writes the labels of a series, one after the other, as its key.

    `size_of_first` returns the size of the first one, in bytes; 0 if there is none.
    """

    to_pairs: ToPairs
    size_of_first: Callable[[bytes], int]


METRIC = METRIC_LABEL.encode()

MAX_PAIRS = MAX_LABELS + 1
"""Includes the metric's name, and empty labels, which the specifications do not allow anyway."""

TOO_MANY = Flaw("too_many_labels", f"at most {MAX_LABELS} labels")

_BROKEN = "surrogateescape"
"""Decodes invalid UTF-8 to lone surrogates, which are refused in all names and values."""

_SHARED = 4_096
_MAX_SHARED_BYTES = 256
"""Most series differ from others only by their metric. So the last metrics, and the last labels of
series, stay parsed if they are not larger than this: about 2 MB and 10 MB at most."""

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
    return to_series_name(metric, [pair for pair in pairs if pair[0] != METRIC_LABEL])


def find_plain_name(form: KeyForm, key: bytes) -> SeriesName | None:
    """Return the name that a key stands for if it begins with the metric and is plainly valid.

    Some other names are valid, too.

    Raises:
        ValueError: it is not a valid key.
    """
    size = form.size_of_first(key)
    if size > _MAX_SHARED_BYTES or len(key) - size > _MAX_SHARED_BYTES:
        return None
    metric = _find_metric(form.to_pairs, key[:size])
    labels = _find_labels(form.to_pairs, key[size:])
    return None if metric is None or labels is None else SeriesName(metric, labels)


@lru_cache(_SHARED)
def _find_metric(to_pairs: ToPairs, first: bytes) -> str | None:
    metric = dict(to_pairs(first)).get(METRIC_LABEL, "")
    return metric if is_plain_metric(metric) else None


@lru_cache(_SHARED)
def _find_labels(to_pairs: ToPairs, others: bytes) -> Labels | None:
    pairs = to_pairs(others)
    return None if METRIC_LABEL in dict(pairs) else find_plain_labels(pairs)


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

"""Names as every protocol but the native one may bring them: any UTF-8 without control characters.

Valid in Prometheus 3 and OpenTelemetry; queried as `{"http.server.duration","service.name"="x"}`.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.model.labels import Labels, SeriesName

MAX_NAME_CHARACTERS = 200
MAX_VALUE_CHARACTERS = 4_096

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")  # jsonb has neither NUL nor lone surrogates


class Flaw(NamedTuple):
    """What is wrong with a name; the codes are those of the native format."""

    code: str
    detail: str


def to_series_name(metric: str, pairs: Iterable[tuple[str, str]]) -> SeriesName | Flaw:
    """The canonical name of a series, or the first thing that is wrong with it.

    Labels with empty values are left out: in Prometheus they mean the same as no label.
    """
    labels = sorted((name, value) for name, value in pairs if value)
    flaw = _find_flaw(metric, labels)
    return SeriesName(metric, Labels(tuple(labels))) if flaw is None else flaw


def _find_flaw(metric: str, labels: list[tuple[str, str]]) -> Flaw | None:
    if not metric or _CONTROL.search(metric):
        return Flaw("invalid_metric", "a metric's name is not empty and has no control characters")
    if len(labels) > MAX_LABELS:
        return Flaw("too_many_labels", f"a series has at most {MAX_LABELS} labels")
    if len({name for name, _ in labels}) < len(labels):
        return Flaw("duplicate_label", "a series has each label once")
    if any(not name or _CONTROL.search(name) for name, _ in labels):
        return Flaw("invalid_label_name", "a label's name is not empty, without control characters")
    if any(_UNSTORABLE.search(value) for _, value in labels):
        return Flaw("invalid_label_value", "a label's value has no NUL and no lone surrogates")
    if len(metric) > MAX_NAME_CHARACTERS or any(len(n) > MAX_NAME_CHARACTERS for n, _ in labels):
        return Flaw("too_long", f"names have at most {MAX_NAME_CHARACTERS} characters")
    if any(len(value) > MAX_VALUE_CHARACTERS for _, value in labels):
        return Flaw("too_long", f"label values have at most {MAX_VALUE_CHARACTERS} characters")
    return None

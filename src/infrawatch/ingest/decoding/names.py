"""Rules for names in all protocols except the native one: any UTF-8 without control characters.

Valid in Prometheus 3 and OpenTelemetry; queried as `{"http.server.duration","service.name"="x"}`.
"""

import re
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.model.labels import Labels, SeriesName
from infrawatch.model.selector import METRIC_LABEL

MAX_NAME_CHARACTERS = 200
MAX_VALUE_CHARACTERS = 4_096

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")  # jsonb has neither NUL nor lone surrogates

_NEVER = frozenset({"", METRIC_LABEL})
"""Names that no label may have."""

_NAME = "a name is not empty and has no control characters"
_VALUE = "a label's value has no NUL and no lone surrogates"


_value_of = itemgetter(1)


class Flaw(NamedTuple):
    """An error in a name; the codes are those of the native format."""

    code: str
    detail: str


def to_series_name(metric: str, pairs: Iterable[tuple[str, str]]) -> SeriesName | Flaw:
    """Return the canonical name of a series, or its first flaw.

    Labels with empty values are dropped: in Prometheus they are equivalent to absent labels.
    """
    labels = Labels(tuple(sorted(filter(_value_of, pairs))))
    is_plain = is_plain_metric(metric) and _are_plain(labels)
    flaw = None if is_plain else _find_flaw(metric, labels)
    return SeriesName(metric, labels) if flaw is None else flaw


def is_plain_metric(metric: str) -> bool:
    """Whether a metric is plainly valid; some valid ones are not."""
    return 0 < len(metric) <= MAX_NAME_CHARACTERS and metric.isprintable()


def find_plain_labels(pairs: Iterable[tuple[str, str]]) -> Labels | None:
    """Return canonical labels if they are plainly valid with any metric; None for some others."""
    labels = Labels(tuple(sorted(filter(_value_of, pairs))))
    return labels if _are_plain(labels) else None


def _are_plain(labels: Labels) -> bool:
    """Whether all texts together are plainly valid, without checking each of them."""
    by_name = dict(labels)
    texts = (*by_name, *by_name.values())
    joined = "".join(texts)
    return (
        len(by_name) == len(labels) <= MAX_LABELS
        and _NEVER.isdisjoint(by_name)
        and (len(joined) <= MAX_NAME_CHARACTERS or max(map(len, texts)) <= MAX_NAME_CHARACTERS)
        and joined.isprintable()  # neither control characters nor surrogates are
    )


def _find_flaw(metric: str, labels: Labels) -> Flaw | None:
    names = [name for name, _ in labels]
    longest = max(map(len, [metric, *names]))
    checks = (
        (not metric or _CONTROL.search(metric), "invalid_metric", _NAME),
        (len(labels) > MAX_LABELS, "too_many_labels", f"at most {MAX_LABELS} labels"),
        (len(set(names)) < len(names), "duplicate_label", "a series has each label once"),
        (any(not n or _CONTROL.search(n) for n in names), "invalid_label_name", _NAME),
        (METRIC_LABEL in names, "invalid_label_name", f"{METRIC_LABEL} is the metric, no label"),
        (any(_UNSTORABLE.search(v) for _, v in labels), "invalid_label_value", _VALUE),
        (longest > MAX_NAME_CHARACTERS, "too_long", f"names: {MAX_NAME_CHARACTERS} characters"),
        (
            any(len(value) > MAX_VALUE_CHARACTERS for _, value in labels),
            "too_long",
            f"label values: at most {MAX_VALUE_CHARACTERS} characters",
        ),
    )
    return next((Flaw(code, detail) for is_wrong, code, detail in checks if is_wrong), None)

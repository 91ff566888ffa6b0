"""Batches as they are spooled and sent: native JSON, compressed with gzip."""

import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from infrawatch.agent.readings import Family, Reading
from infrawatch.client.series import Receipt

MAX_SERIES = 10_000
MAX_SAMPLES = 50_000
MAX_LABEL_CHARACTERS = 4096
"""The limits of a server for one batch."""

_DESCRIBE_EVERY_MS = 600_000
"""Types, units and help are a third of a batch's text and never change. Sent this rarely they
cost almost nothing, and a server with a new database still receives them."""

_UNSENDABLE = re.compile("[\0\ud800-\udfff]")
_PLACE = re.compile(r"/series/(?P<series>\d+)(?:/samples/(?P<sample>\d+))?")
_GZIP_LEVEL = 1

_Key = tuple[str, tuple[str, ...]]


class Body(NamedTuple):
    """A batch ready to be sent, and the number of samples in it."""

    samples: int
    json_gzip: bytes


class Encoder:
    """Encodes readings as batches; `labels` are added to every series that does not set them.

    The text that names a series is encoded once and kept while the series exists.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = {name: _clean(value) for name, value in labels.items()}
        self._names: dict[_Key, str] = {}
        self._described_ms = -_DESCRIBE_EVERY_MS

    def encode(self, readings: Iterable[Reading], *, time_ms: int) -> list[Body]:
        """Encode the readings in as few batches as possible.

        Of several readings of the same series the first is kept. Values that are not finite
        are left out, because JSON cannot represent them.
        """
        is_described = not 0 <= time_ms - self._described_ms < _DESCRIBE_EVERY_MS
        if is_described:
            self._described_ms = time_ms
        names: dict[_Key, str] = {}
        series: dict[str, str] = {}
        for family, value, labels in readings:
            if not math.isfinite(value):
                continue
            key = (family.metric, labels)
            name = names[key] = self._names.get(key) or self._name(family, labels)
            description = _description(family) if is_described else ""
            sample = f'"samples":[[{time_ms},{float(value)!r}]]'
            series.setdefault(name, f"{{{name}{description},{sample}}}")
        self._names = names  # forgets the series that are gone
        texts = list(series.values())
        parts = [texts[at : at + MAX_SERIES] for at in range(0, len(texts), MAX_SERIES)]
        return [Body(len(part), _compressed(f'{{"series":[{",".join(part)}]}}')) for part in parts]

    def _name(self, family: Family, values: Sequence[str]) -> str:
        own = zip(family.labels, map(_clean, values), strict=True)
        labels = {name: value for name, value in {**self._labels, **dict(own)}.items() if value}
        return f'"metric":{json.dumps(family.metric)},"labels":{_to_json(labels)}'


def merged(bodies: Sequence[bytes]) -> Body:
    """Merge batches into one, with each series once; samples keep the order of the bodies."""
    whole: dict[_Key, dict[str, Any]] = {}
    for series in (one for body in bodies for one in _read(body)):
        key = (series["metric"], tuple(series["labels"].items()))
        known = whole.setdefault(key, series)
        if known is not series:
            known["samples"] += series.pop("samples")
            known.update(series)
    return _to_body(list(whole.values()))


def halves(body: bytes) -> tuple[Body, ...]:
    """Split a batch into two with half of the series each; empty if there is only one series."""
    series = _read(body)
    middle = len(series) // 2
    return (_to_body(series[:middle]), _to_body(series[middle:])) if middle else ()


def count_refused(body: bytes, receipt: Receipt) -> Counter[str]:
    """How many samples of the batch were refused, by code.

    A receipt names the first hundred refusals only; the others count as `unlisted`.
    """
    sizes = dict(enumerate(len(series["samples"]) for series in _read(body)))
    samples: dict[tuple[str, ...], tuple[str, int]] = {}
    for verdict in receipt.errors:
        if place := _PLACE.match(verdict.pointer):
            is_one = place["sample"] is not None
            number = 1 if is_one else sizes.get(int(place["series"]), 0)
            samples.setdefault(place.groups(), (verdict.code, number))
    refused: Counter[str] = Counter()
    for code, number in samples.values():
        refused[code] += number
    refused["unlisted"] = receipt.rejected - refused.total()
    return +refused


def _read(body: bytes) -> list[dict[str, Any]]:
    series: list[dict[str, Any]] = json.loads(gzip.decompress(body))["series"]
    return series


def _to_body(series: Sequence[dict[str, Any]]) -> Body:
    samples = sum(len(one["samples"]) for one in series)
    return Body(samples, _compressed(_to_json({"series": series})))


def _to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _compressed(text: str) -> bytes:
    return gzip.compress(text.encode(), _GZIP_LEVEL)


def _description(family: Family) -> str:
    unit = f',"unit":{json.dumps(family.unit)}' if family.unit else ""
    return f',"type":"{family.type}"{unit},"help":{json.dumps(family.help)}'


def _clean(value: str) -> str:
    """Text of the system may hold bytes that cannot be decoded, or be too long for a label."""
    return _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", value)[:MAX_LABEL_CHARACTERS]

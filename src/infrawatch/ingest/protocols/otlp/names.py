"""Translation of OpenTelemetry names to Prometheus names, as Prometheus does by default.

Source: github.com/prometheus/otlptranslator, strategy UnderscoreEscapingWithSuffixes.
"""

import re
from typing import Literal

Kind = Literal["gauge", "counter", "other"]
"""Determines the suffix: counters end in `_total`, gauges with unit 1 in `_ratio`."""

_TOKEN = re.compile(r"[a-zA-Z0-9:]+")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]")

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",  # Prometheus' spelling, so that its dashboards find it
    "KBy": "kilobytes",
    "kBy": "kilobytes",  # UCUM's spelling; Prometheus knows only the other one
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}


def metric_name(name: str, unit: str, kind: Kind) -> str:
    """`http.server.duration` in `s` → `http_server_duration_seconds`.

    Words of the unit are omitted if the name contains them already; the suffix (`total`, `ratio`)
    comes last and only once. Empty if no character of the name can be kept.
    """
    words: list[str] = _TOKEN.findall(name)
    words += [word for word in _unit_words(unit) if word not in words]
    suffix = {"counter": "total", "gauge": "ratio" if unit == "1" else "", "other": ""}[kind]
    if suffix:
        words = [word for word in words if word != suffix] + [suffix]
    joined = "_".join(words)
    return f"_{joined}" if joined[:1].isdigit() else joined


def unit_name(unit: str) -> str:
    """The unit for metadata: `By/s` → `bytes_per_second`; empty for `1` and `{request}`."""
    return "_".join(_unit_words(unit))


def label_name(key: str) -> str | None:
    """`service.name` → `service_name`; None if only underscores would be left."""
    name = _NOT_IN_LABEL.sub("_", key)
    if not name.strip("_"):
        return None
    if name[0].isdigit():
        return f"key_{name}"
    if name[0] == "_" and name[1] != "_":
        return f"key{name}"
    return name


def _unit_words(unit: str) -> list[str]:
    """Words for the parts before and after the slash; parts in braces are annotations."""
    main, _, per = (part.strip() for part in unit.partition("/"))
    words = [
        "" if _is_remark(main) else _cleaned(_UNITS.get(main, main)),
        "" if _is_remark(per) or not per else _cleaned(f"per_{_PER.get(per, per)}"),
    ]
    return [word for word in words if word not in ("", "per")]


def _is_remark(unit: str) -> bool:
    return "{" in unit or "}" in unit


def _cleaned(word: str) -> str:
    return "_".join(_TOKEN.findall(word))

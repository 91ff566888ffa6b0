"""Functions of instant vectors and numbers.

Source: Prometheus, "Query functions".
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
import re2
from numpy.typing import NDArray

from infrawatch.errors import CannotEvaluate, InvalidQuery
from infrawatch.model.expressions import BoundedPattern
from infrawatch.model.samples import Bools, Float64s
from infrawatch.query.promql.histograms import histogram_quantile
from infrawatch.query.promql.responses import Value
from infrawatch.query.promql.vectors import Labels, Vector, check_label

_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")
"""The references that Go's `Regexp.Expand` replaces."""

_MAX_VALUE_CHARACTERS = 4_096
"""The limit of stored label values; each nested call may double the length."""

_MAX_RESULT_CHARACTERS = 4 * 1024 * 1024
"""The limit for all series together: 80 for each of 50,000."""


def _rounded(values: Float64s, to: Float64s) -> Float64s:
    inverse = 1.0 / to
    return np.floor(values * inverse + 0.5) / inverse


_ELEMENTWISE: Mapping[str, Callable[..., Float64s]] = MappingProxyType(
    {
        **{name: getattr(np, name) for name in ("abs", "ceil", "exp", "floor", "sqrt")},
        **{name: getattr(np, name) for name in ("log2", "log10", "sin", "cos", "tan")},
        **{name: getattr(np, name) for name in ("sinh", "cosh", "tanh")},
        **{name: getattr(np, f"arc{name[1:]}") for name in ("acos", "asin", "atan")},
        **{name: getattr(np, f"arc{name[1:]}") for name in ("acosh", "asinh", "atanh")},
        "deg": np.rad2deg,
        "ln": np.log,
        "rad": np.deg2rad,
        "round": lambda values, to=1.0: _rounded(values, to),
        "sgn": np.sign,
        "clamp_max": np.minimum,
        "clamp_min": np.maximum,
    }
)
"""Elementwise functions; numbers, one for each moment, may follow the vector."""


def _since(values: Float64s, unit: str, larger: str) -> Float64s:
    """The number of whole units since the current larger unit began."""
    times = _times(values)
    begun = times.astype(f"datetime64[{larger}]")
    counted = (times.astype(f"datetime64[{unit}]") - begun.astype(f"datetime64[{unit}]")).astype(
        np.float64
    )
    return np.where(np.isfinite(values), counted, np.nan)


def _times(values: Float64s) -> "NDArray[np.datetime64]":
    return np.where(np.isfinite(values), values, 0.0).astype(np.int64).astype("datetime64[s]")


def _weekday(values: Float64s) -> Float64s:
    days = _times(values).astype("datetime64[D]").astype(np.int64)
    return np.where(np.isfinite(values), (days + 4) % 7, np.nan)  # 1970 began on a Thursday


def _days_in_month(values: Float64s) -> Float64s:
    month = _times(values).astype("datetime64[M]")
    days = ((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.float64)
    return np.where(np.isfinite(values), days, np.nan)


_OF_TIMES: Mapping[str, Callable[[Float64s], Float64s]] = MappingProxyType(
    {
        "day_of_month": lambda values: _since(values, "D", "M") + 1,
        "day_of_week": _weekday,
        "day_of_year": lambda values: _since(values, "D", "Y") + 1,
        "days_in_month": _days_in_month,
        "hour": lambda values: _since(values, "h", "D"),
        "minute": lambda values: _since(values, "m", "h"),
        "month": lambda values: _since(values, "M", "Y") + 1,
        "year": lambda values: np.where(
            np.isfinite(values), _times(values).astype("datetime64[Y]").astype(float) + 1970, np.nan
        ),
    }
)
"""UTC calendar functions of seconds since 1970; without an argument, of each moment."""


def _to_number(vector: Vector) -> Float64s:
    """`scalar`: the value of the only series at a moment; NaN if there are several or none."""
    only = vector.present.sum(axis=0) == 1
    total = np.where(vector.present, vector.values, 0.0).sum(axis=0)
    return np.where(only, total, np.nan)


def of_one(values: Float64s) -> Vector:
    """`vector`: a single series without labels."""
    return Vector([{}], values[np.newaxis], np.ones((1, len(values)), np.bool_))


def absent(vector: Vector, labels: Labels) -> Vector:
    """1 where nothing is present."""
    missing: Bools = ~np.any(vector.present, axis=0, keepdims=True)
    return Vector([labels], np.ones(missing.shape), missing)


def _ordered(vector: Vector, *, is_descending: bool) -> Vector:
    """Sort by value at the first moment; NaN comes last."""
    heights = np.where(vector.present[:, 0], vector.values[:, 0], np.nan)
    keys = -heights if is_descending else heights
    return vector.picked(np.argsort(keys, kind="stable"))


def _label_replace(
    vector: Vector, target: str, replacement: str, source: str, expression: str
) -> Vector:
    """Set a label to an expansion of another one, if a regular expression matches all of that.

    Raises:
        CannotEvaluate: the label name is invalid, two series get the same labels, or a value
            becomes too long.
        InvalidSelector: the expression is not RE2.
        QueryTooBroad: matching takes too much work.
    """
    pattern = BoundedPattern(expression)

    def value_of(labels: Labels) -> str | None:
        found = pattern.fullmatch(labels.get(source, ""))
        return None if found is None else _expanded(replacement, found)

    return _with_values(vector, target, value_of)


def _label_join(vector: Vector, target: str, separator: str, *sources: str) -> Vector:
    """Set a label to the values of others, joined.

    Raises:
        CannotEvaluate: the label name is invalid, two series get the same labels, or a value
            becomes too long.
    """
    return _with_values(
        vector, target, lambda labels: separator.join(labels.get(source, "") for source in sources)
    )


def _with_values(vector: Vector, target: str, value_of: Callable[[Labels], str | None]) -> Vector:
    """Set a label on every series; None from `value_of` leaves a series unchanged."""
    check_label(target)
    left = _MAX_RESULT_CHARACTERS

    def change(labels: Labels) -> Labels:
        nonlocal left
        value = value_of(labels)
        if value is None:
            return labels
        left -= len(value)
        if left < 0 or len(value) > _MAX_VALUE_CHARACTERS:
            raise CannotEvaluate(
                f"label_replace and label_join make values of {_MAX_VALUE_CHARACTERS} characters "
                f"at most, {_MAX_RESULT_CHARACTERS} together: make shorter ones, of fewer series"
            )
        return _with_label(labels, target, value)

    return vector.relabelled(change)


def _with_label(labels: Labels, name: str, value: str) -> Labels:
    return {**labels, name: value} if value else {k: v for k, v in labels.items() if k != name}


def _expanded(template: str, found: "re2._Match[str]") -> str:
    def value(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        groups = found.groupdict()
        if name in groups:
            return groups[name] or ""
        is_group = name.isdigit() and int(name) <= len(found.groups())
        return (found.group(int(name)) or "") if is_group else ""

    return _REFERENCE.sub(value, template)


def _clamp(vector: Vector, lower: Float64s, upper: Float64s) -> Vector:
    """`clamp`: the result is empty where `lower` exceeds `upper`."""
    values = np.maximum(lower, np.minimum(upper, vector.values))
    return vector.with_values(values).where(~(upper < lower)).without_name()


def _each(function: Callable[..., Float64s]) -> Callable[..., Vector]:
    """Turn an elementwise function into one of vectors; numbers may follow the vector."""

    def of_each(vector: Value, *numbers: Float64s) -> Vector:
        if not isinstance(vector, Vector):  # the parser lets ln(-1), exp(Inf) and the like pass
            raise InvalidQuery("this function takes a vector, not a number: write vector(…)")
        return vector.with_values(function(vector.values, *numbers)).without_name()

    return of_each


FUNCTIONS: Mapping[str, Callable[..., Value]] = MappingProxyType(
    {
        **{name: _each(function) for name, function in _ELEMENTWISE.items()},
        **{name: _each(function) for name, function in _OF_TIMES.items()},
        "clamp": _clamp,
        "histogram_quantile": histogram_quantile,
        "label_join": _label_join,
        "label_replace": _label_replace,
        "pi": lambda now: np.full(now.values.shape[1], np.pi),
        "scalar": _to_number,
        "sort": partial(_ordered, is_descending=False),
        "sort_desc": partial(_ordered, is_descending=True),
        "vector": of_one,
    }
)
"""By name; the parser checks their argument types. Without an argument they are called with
`vector(time())`."""

OF_EXPRESSIONS = frozenset({"absent", "absent_over_time", "timestamp"})
"""Functions that depend on how their argument is written."""

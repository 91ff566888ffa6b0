"""Binary operators: arithmetic, comparison, and the set operators.

Source: Prometheus, "Operators", and promql/engine.go where that is silent.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import promql_parser as promql

from infrawatch.errors import CannotEvaluate, QueryTooBroad
from infrawatch.model.samples import Bools, Float64s, Positions
from infrawatch.model.selector import METRIC_LABEL
from infrawatch.query.promql.vectors import Groups, Key, Labels, Vector, key_of, within, without

_ARITHMETIC: Mapping[str, Callable[[Float64s, Float64s], Float64s]] = MappingProxyType(
    {
        "+": np.add,
        "-": np.subtract,
        "*": np.multiply,
        "/": np.divide,
        "%": np.fmod,
        "^": np.power,
        "atan2": np.arctan2,
    }
)
_COMPARISONS: Mapping[str, Callable[[Float64s, Float64s], Bools]] = MappingProxyType(
    {
        "==": np.equal,
        "!=": np.not_equal,
        ">": np.greater,
        "<": np.less,
        ">=": np.greater_equal,
        "<=": np.less_equal,
    }
)
_MAX_VALUES = 20_000_000
"""The maximum of all values of all matching pairs of series: 160 MB."""


def calculate(operator: str, left: Float64s, right: Float64s) -> Float64s:
    """Combine two numbers at each moment; a comparison gives 1 or 0."""
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](left, right).astype(np.float64)
    return _ARITHMETIC[operator](left, right)


def with_number(
    operator: str, vector: Vector, number: Float64s, *, is_left: bool, is_bool: bool
) -> Vector:
    """Combine a vector and a number; `is_left` tells whether the vector comes first."""
    sides = (vector.values, number) if is_left else (number, vector.values)
    if operator in _COMPARISONS and not is_bool:
        return vector.where(_COMPARISONS[operator](*sides))
    return vector.with_values(calculate(operator, *sides)).without_name()


def with_vector(
    operator: str, left: Vector, right: Vector, modifier: promql.BinModifier | None
) -> Vector:
    """Combine two vectors, matching series by their labels as `modifier` says.

    Raises:
        CannotEvaluate: a series matches several on the other side.
    """
    matching = Matching(modifier)
    if operator in _SETS:
        return _SETS[operator](left, right, matching)
    return _joined(operator, left, right, matching)


class Matching:
    """The labels that must be equal, and the labels of the result."""

    def __init__(self, modifier: promql.BinModifier | None) -> None:
        matching = None if modifier is None else modifier.matching
        self.is_on = matching is not None and matching.type == promql.LabelModifierType.Include
        self.names = frozenset(matching.labels if matching else ())
        cardinalities = promql.VectorMatchCardinality
        card = cardinalities.OneToOne if modifier is None else modifier.card
        self.is_one_to_one = card == cardinalities.OneToOne
        self.is_right_many = card == cardinalities.OneToMany
        self.included = tuple((modifier.group_labels or ()) if modifier else ())
        self.is_bool = modifier is not None and modifier.return_bool

    def keys(self, vector: Vector) -> list[Key]:
        """The labels of each row that must be equal on the other side."""
        if self.is_on:
            return [key_of(within(labels, self.names)) for labels in vector.labels]
        names = self.names | {METRIC_LABEL}
        return [key_of(without(labels, names)) for labels in vector.labels]

    def result(self, many: Labels, one: Labels, *, keeps_name: bool) -> Labels:
        """The labels of a pair of series."""
        labels = dict(many) if keeps_name else without(many, {METRIC_LABEL})
        if self.is_one_to_one:
            labels = within(labels, self.names) if self.is_on else without(labels, self.names)
        for name in self.included:
            labels.pop(name, None)
            if name in one:
                labels[name] = one[name]
        return labels


def _joined(operator: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    many, one = (right, left) if matching.is_right_many else (left, right)
    many_keys, one_keys = matching.keys(many), matching.keys(one)
    meets: Bools = np.any(many.present, axis=0, keepdims=True)
    _check_one(one.where(meets), one_keys, "left" if matching.is_right_many else "right")
    pairs = _pairs(many_keys, one_keys, _MAX_VALUES // many.values.shape[1])
    rows, others = many.picked(pairs[:, 0]), one.picked(pairs[:, 1])
    sides = (others, rows) if matching.is_right_many else (rows, others)
    present = rows.present & others.present
    if matching.is_one_to_one:
        keys = [many_keys[row] for row in pairs[:, 0].tolist()]
        if (Groups.of(keys).count(present) > 1).any():
            raise CannotEvaluate(
                "several series on the left match the same one on the right: say so with "
                "group_left or group_right"
            )
    values = [side.values for side in sides]
    is_filter = operator in _COMPARISONS and not matching.is_bool
    if is_filter:
        present &= _COMPARISONS[operator](*values)
    labels = [
        matching.result(row, other, keeps_name=is_filter)
        for row, other in zip(rows.labels, others.labels, strict=True)
    ]
    answers = values[0] if is_filter else calculate(operator, *values)
    return Vector(labels, answers, present).unique()


def _check_one(one: Vector, keys: Sequence[Key], side: str) -> None:
    groups = Groups.of(keys)
    several = (groups.count(one.present) > 1).any(axis=1)
    if several.any():
        labels = dict(keys[groups.firsts[np.flatnonzero(several)[0]]])
        raise CannotEvaluate(
            f"several series on the {side} have {labels}, so that it is not clear which one is "
            "meant: name more labels with on(…), or aggregate them first"
        )


def _pairs(many: Sequence[Key], one: Sequence[Key], max_pairs: int) -> Positions:
    """The pairs of rows that match each other, at most `max_pairs`."""
    places: dict[Key, list[int]] = {}
    for place, key in enumerate(one):
        places.setdefault(key, []).append(place)
    if sum(len(places.get(key, ())) for key in many) > max_pairs:
        raise QueryTooBroad(
            "too many series match each other: name more labels with on(…), or ask for a longer "
            "step"
        )
    pairs = [(row, place) for row, key in enumerate(many) for place in places.get(key, ())]
    return np.array(pairs, np.intp).reshape(-1, 2)


def _has_match(vector: Vector, other: Vector, matching: Matching) -> Bools:
    """Where the other side has a series that matches a row of the vector."""
    keys = matching.keys(other)
    groups = Groups.of(keys)
    found = groups.count(other.present) > 0
    numbers = {keys[first]: number for number, first in enumerate(groups.firsts.tolist())}
    matched = np.zeros(vector.present.shape, np.bool_)
    for row, key in enumerate(matching.keys(vector)):
        if key in numbers:
            matched[row] = found[numbers[key]]
    return matched


def _both(left: Vector, right: Vector, matching: Matching) -> Vector:
    return left.where(_has_match(left, right, matching))


def _only_left(left: Vector, right: Vector, matching: Matching) -> Vector:
    return left.where(~_has_match(left, right, matching))


def _either(left: Vector, right: Vector, matching: Matching) -> Vector:
    more = right.where(~_has_match(right, left, matching))
    return Vector(
        [*left.labels, *more.labels],
        np.concatenate((left.values, more.values)),
        np.concatenate((left.present, more.present)),
    ).unique()


_SETS: Mapping[str, Callable[[Vector, Vector, Matching], Vector]] = MappingProxyType(
    {"and": _both, "or": _either, "unless": _only_left}
)

"""Selectors as SQL conditions on `series`."""

import json
import re

from infrawatch.model.selector import METRIC_LABEL, Matcher, Operator, Selector

_REGULAR = re.compile(r"[\\.+*?()\[\]{}^$]")


def split(selector: Selector) -> tuple[str, dict[str, object], Selector]:
    """Return conditions that PostgreSQL evaluates, their parameters, and the matchers for RE2."""
    conditions: list[str] = []
    parameters: dict[str, object] = {}
    rest: list[Matcher] = []
    for number, matcher in enumerate(selector.matchers):
        condition, values = _to_sql(matcher, f"m{number}")
        if condition is None:
            rest.append(matcher)
        else:
            conditions.append(f"AND {condition}")
            parameters |= values
    return " ".join(conditions), parameters, Selector(tuple(rest))


def _to_sql(matcher: Matcher, name: str) -> tuple[str | None, dict[str, object]]:
    """Return a condition, usable by an index if one exists; None for a true regular expression."""
    alternatives = _alternatives(matcher)
    if alternatives is None:
        return None, {}
    is_negative = matcher.operator in (Operator.NOT_EQUAL, Operator.MATCHES_NOT)
    negation = "NOT " if is_negative else ""
    if matcher.label != METRIC_LABEL and ("" in alternatives or is_negative):
        return (  # an absent label counts as empty
            f"{negation}coalesce(labels ->> :{name}l, '') = ANY(CAST(:{name} AS text[]))",
            {name: alternatives, f"{name}l": matcher.label},
        )
    is_it, values = "labels @> CAST(:{} AS jsonb)", alternatives
    if matcher.label == METRIC_LABEL:
        is_it = "metric = :{}"
    else:
        values = [json.dumps({matcher.label: value}) for value in alternatives]
    # One condition per value: for an array of unknown length PostgreSQL's estimate is a tenth of
    # all series.
    parameters: dict[str, object] = {f"{name}v{n}": value for n, value in enumerate(values)}
    return f"{negation}({' OR '.join(map(is_it.format, parameters))})", parameters


def _alternatives(matcher: Matcher) -> list[str] | None:
    """Return the plain values a matcher compares with, three for `a|b|c`; None for a true regex."""
    if matcher.operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return [matcher.value]
    if _REGULAR.search(matcher.value):
        return None
    return matcher.value.split("|")

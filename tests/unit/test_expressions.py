"""Looking with regular expressions is bounded, however they are made, and never for usual ones."""

import pytest

from infrawatch.errors import InvalidSelector, QueryTooBroad
from infrawatch.model import expressions
from infrawatch.model.expressions import BoundedPattern, compiled
from infrawatch.model.selector import parse_selector, to_predicate

HEAVY = "(.*a){500}b"
ADDRESSES = "|".join(rf"10\.0\.{n // 250}\.{n % 250}:9100" for n in range(400))


class Clock:
    """A processor clock that advances by `by_s` at every reading."""

    def __init__(self, by_s: float) -> None:
        self.now_s, self._by_s = 0.0, by_s

    def __call__(self) -> float:
        self.now_s += self._by_s
        return self.now_s


@pytest.mark.parametrize("expression", [HEAVY, ".*a.{900}", "(a?){1000}", "((a*)?){700}"])
def test_a_single_slow_match_is_refused(expression: str) -> None:
    with pytest.raises(QueryTooBroad, match="takes too long"):
        BoundedPattern(expression).fullmatch("a" * 4_096)


def test_matches_that_are_slow_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "thread_time", Clock(by_s=0.01))
    pattern = BoundedPattern("web-.*")

    for n in range(50):
        pattern.fullmatch(f"web-{n}")
    with pytest.raises(QueryTooBroad, match="web-"):
        [pattern.fullmatch(f"web-{n}") for n in range(100)]


def test_any_number_of_ordinary_matches_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "thread_time", Clock(by_s=0.000_005))
    pattern = BoundedPattern(ADDRESSES)

    found = [pattern.fullmatch(f"10.0.1.{n % 150}:9100") for n in range(100_000)]

    assert None not in found


@pytest.mark.parametrize("operator", ["=~", "!~"])
def test_a_selector_is_bounded_as_its_expressions_are(operator: str) -> None:
    accepts = to_predicate(parse_selector(f'up{{long{operator}"{HEAVY}"}}'))

    assert accepts("up", {"long": "b"}) == (operator == "!~")
    assert not accepts("down", {"long": "a" * 4_096})
    with pytest.raises(QueryTooBroad):
        accepts("up", {"long": "a" * 4_096})


def test_an_invalid_expression_is_explained() -> None:
    with pytest.raises(InvalidSelector, match=r"bad regular expression 'ü\(': missing \): ü\($"):
        compiled("ü(")

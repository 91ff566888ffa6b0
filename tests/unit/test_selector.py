"""Selectors: what they mean, and that nothing written breaks their reader."""

from collections.abc import Mapping
from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infrawatch.errors import InvalidSelector
from infrawatch.model.selector import (
    MAX_SELECTOR_CHARACTERS,
    Matcher,
    Operator,
    Selector,
    parse_selector,
)

WEB = {"host": "web-1", "env": "live"}
SYMBOLS = "{}()[]\"'`,=!~@:+-*/# \n\t\0\\é🚀"
WORDS = ("=~", "!~", "!=", "or", "offset", "bool", "sum", "by", "up", "host", "__name__")
VALUES = ('"web-.*"', "5m", "1e3", "0x", "NaN", "\\u00")
PIECES = st.sampled_from([*SYMBOLS, *WORDS, *VALUES])


@pytest.mark.parametrize(
    ("text", "labels", "is_meant"),
    [
        ("up", WEB, True),
        ("down", WEB, False),
        ('{__name__="up"}', WEB, True),
        ('{"up"}', WEB, True),
        ('{"up", "host"="web-1"}', WEB, True),
        ('up{host="web-1"}', WEB, True),
        ('up{host="web"}', WEB, False),
        ('up{host!="web-1"}', WEB, False),
        ('up{host=~"web-.*"}', WEB, True),
        ('up{host=~"web"}', WEB, False),
        ('up{host=~"(?i)WEB-1"}', WEB, True),
        ('up{host!~"web-[0-9]"}', WEB, False),
        ('up{host=~"web-1|db-1",env!="test"}', WEB, True),
        ('up{zone=""}', WEB, True),
        ('up{zone!=""}', WEB, False),
        ('up{zone!="a"}', WEB, True),
        ('up{zone=~".*"}', WEB, True),
        ('up{zone=~".+"}', WEB, False),
        ('up{host=""}', WEB, False),
        ('up{host=~"a.b"}', {"host": "a\nb"}, True),
        ("up{host='web-1',}", WEB, True),
    ],
)
def test_a_selector_means_what_prometheus_means_by_it(
    text: str, labels: Mapping[str, str], is_meant: bool
) -> None:
    assert parse_selector(text).accepts("up", labels) is is_meant


def test_equivalent_selectors_are_equal() -> None:
    assert parse_selector('up{a="1",b="2"}') == parse_selector('{b="2", a="1", __name__="up",}')


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "not a vector selector .*; it is empty"),
        ("{}", "not a vector selector .*; name a metric, or a label with a value"),
        ("http.server.duration", r'in braces and quotes: \{"http.server.duration"\}'),
        ("up{host=web}", "put the value in quotes"),
        ("up{host~'x'}", 'a matcher is label="value"'),
        ("up{host=", "inside braces; close them with }"),
        ("up{", "not a vector selector"),
        ('up{host=~"("}', "illegal regex"),
        ('up{host=~"(a{900}){900}"}', "illegal regex"),
        ('up{host=~"(?P<a>x)(?P<a>y)"}', "regex"),
        ("rate(up[5m])", "plain selector"),
        ("up[5m]", "plain selector"),
        ("up + 1", "plain selector"),
        ("1", "plain selector"),
        ("up offset 5m", "start and end"),
        ("up @ 1790000000", "start and end"),
        ('up{host="a" or host="b"}', "alternatives"),
        ('up{host="\\u0000"}', "NUL"),
        ("up" * MAX_SELECTOR_CHARACTERS, "at most"),
        ("(" * (MAX_SELECTOR_CHARACTERS - 1), "selector"),
        ("(" * 4_000 + "up" + ")" * 4_000, "selector"),
        ("-" * 8_000 + "up", "plain selector"),
        ("up + " * 1_600 + "up", "plain selector"),
        ("sum(" * 1_600 + "up" + ")" * 1_600, "plain selector"),
        ('{a="b"} # {\n' + "-" * 8_000 + "up # }", "plain selector"),
    ],
)
def test_an_invalid_selector_is_refused_with_the_reason(text: str, hint: str) -> None:
    started = perf_counter()

    with pytest.raises(InvalidSelector, match=hint) as refused:
        parse_selector(text)

    assert len(str(refused.value)) < 500
    assert perf_counter() - started < 1


@pytest.mark.parametrize(
    "text",
    [
        'up{host=~"' + "|".join(f"web-{number}" for number in range(900)) + '"}',
        '{__name__=~"(a|b)+", ' + ", ".join(f"l{n}!='-+(}}{{'" for n in range(400)) + "}",
        "node_load1" + " " * 8_000,
        '{a="' + '\\"' * 4_000 + '"}',
        "{a=`" + "{" * 8_000 + "`}",
    ],
)
def test_a_long_selector_is_read_as_long_as_it_is_plain(text: str) -> None:
    started = perf_counter()

    assert parse_selector(text).matchers
    assert perf_counter() - started < 1


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=50))
@example('up{"a\ud800"="b"}')
@example('{"\0"="b"}')
@example('up{a=~"\\C"}')
@example("up{a=~`(?P<n>a)(?P<n>b)`}")
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_selector(text), Selector)
    except InvalidSelector as error:
        assert str(error)  # noqa: PT017  # both outcomes are right


@given(st.dictionaries(st.sampled_from("abc"), st.text(alphabet="xy\n\\", max_size=3)))
def test_a_label_equals_itself_however_it_is_escaped(labels: dict[str, str]) -> None:
    conditions = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace("\n", "\\n"))
        for name, value in labels.items()
    )

    selector = parse_selector(f"up{{{conditions}}}")

    assert selector.accepts("up", labels)
    assert set(selector.matchers) == {
        Matcher("__name__", Operator.EQUAL, "up"),
        *(Matcher(name, Operator.EQUAL, value) for name, value in labels.items()),
    }

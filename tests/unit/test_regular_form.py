"""The short cut for regular bodies says exactly what reading them carefully says, or nothing."""

import json
from typing import Any

import pytest
from decoding import content_of, content_or_refusal, decoded_carefully, nothing_known
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infrawatch.ingest.native.regular import decode_regular

MS = 1_000_000

TEXTS = st.text(alphabet=st.sampled_from('ab{}[],:"\\ é\n🚀'), max_size=8)
LABELS = st.dictionaries(st.sampled_from(["host", "a", "b.c", "series", "samples"]), TEXTS)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
SAID = st.sampled_from([{}, {"type": "gauge"}, {"unit": "s", "help": 'a "{"metric" of it'}])


def batches(times: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    samples = st.lists(st.tuples(times, NUMBERS).map(list), min_size=1, max_size=4)
    series = st.builds(
        lambda metric, labels, metadata, samples: {
            "metric": metric,
            "labels": labels,
            **metadata,
            "samples": samples,
        },
        st.sampled_from(["a", "up", "node:load1"]),
        LABELS,
        SAID,
        samples,
    )
    return st.fixed_dictionaries({"series": st.lists(series, min_size=1, max_size=4)})


BATCHES = batches(st.integers(-(2**63), 2**63 - 1))
USUAL_BATCHES = st.integers(1, 19).flatmap(
    lambda width: batches(st.integers(10 ** (width - 1), min(10**width, 2**63) - 1))
)
"""All times of a batch have as many digits, as those of one age and one precision do."""

PIECES = [
    *'{}[],:" \\\t',
    '{"metric"',
    '{"metric":"a"',
    '{"metric":"b","labels":{"x":"y"}',
    ',"samples":[',
    ', "samples": [',
    '{"samples":[',
    '"samples":[[1,1]]',
    '"series":[',
    '"s\\u0065ries":[',
    '"labels":{"a":"b"}',
    '\\"',
    "\\u0022",
    ']},{"metric"',
    ']}, {"metric"',
    "]],[[",
    "],[",
    "]}]}",
    "[[1,1]]",
    "[2,2]",
    "[3,3",
    "4,4]",
    "],[",
    "]],[[",
    ']},{"metric"',
    ']}, {"metric"',
    "]}]}",
    "NaN",
    "1e400",
    "\x00",
    "\ufeff",
]


def regular(body: bytes) -> object:
    decoded = decode_regular(body, MS, nothing_known)
    return None if decoded is None else content_of(decoded)


def check(body: bytes) -> bool:
    """Whether the fast path was taken; if so, its result must be correct."""
    short = regular(body)
    if short is None:
        return False
    assert short == content_or_refusal(body, carefully=True)
    return True


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@given(batch=USUAL_BATCHES)
def test_the_output_of_common_encoders_takes_the_fast_path(
    batch: dict[str, Any], separators: tuple[str, str]
) -> None:
    for escaped in (True, False):
        body = json.dumps(batch, separators=separators, ensure_ascii=escaped).encode()
        assert check(body)


@given(
    BATCHES | USUAL_BATCHES,
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from(PIECES)), max_size=4),
)
@settings(max_examples=500)
def test_no_change_to_a_body_misleads_the_fast_path(
    batch: dict[str, Any], changes: list[tuple[int, str]]
) -> None:
    text = json.dumps(batch, separators=(",", ":"))
    for place, piece in changes:
        text = text[:place] + piece + text[place + len(piece) * (place % 2) :]
    check(text.encode("utf-8", "surrogatepass"))


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@settings(max_examples=300)
def test_no_mix_of_its_own_tokens_misleads_the_fast_path(soup: str) -> None:
    check(soup.encode())
    check(f'{{"series":[{soup}]}}'.encode())


INSIDES = st.lists(
    st.sampled_from(
        [
            "[1,1]",
            "[1,2",
            "3,4]",
            "[",
            "]",
            ",",
            "],[",
            "]],[[",
            "5",
            " ",
            "[01,2]",
            "[1,02]",
            "[-1,2]",
        ]
    ),
    max_size=4,
).map("".join)


@given(st.lists(INSIDES, min_size=1, max_size=4))
@settings(max_examples=500)
@example(["[1,1]],[[2,2]", "[1,2", "3,4]"])
def test_brackets_between_series_never_mislead_the_fast_path(insides: list[str]) -> None:
    series = [f'{{"metric":"m{n}","samples":[{inside}]}}' for n, inside in enumerate(insides)]
    check(f'{{"series":[{",".join(series)}]}}'.encode())


class Pairs(list[tuple[str, Any]]):
    """A JSON object that may say a key twice."""


KEYS = st.sampled_from(["series", "s\\u0065ries", "samples", "metric", "labels", "help", "x"])
LEAVES = st.sampled_from([[[1, 1]], [[2, 2], [3, 3]], [1, 2], 1, None, "a", '{"metric":"a"', []])
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.tuples(KEYS, inner), max_size=4).map(Pairs)
        | inner.map(lambda some: Pairs([("metric", "m"), ("samples", some)]))
        | inner.map(lambda some: Pairs([("series", [some])]))
    ),
    max_leaves=12,
)


def written(tree: Any, space: str = "") -> str:
    """JSON as encoders write it, with keys as they are."""
    if isinstance(tree, Pairs):
        members = [f'"{key}":{space}{written(value, space)}' for key, value in tree]
        return "{" + f",{space}".join(members) + "}"
    if isinstance(tree, list):
        return "[" + f",{space}".join(written(one, space) for one in tree) + "]"
    return json.dumps(tree)


HEADED = Pairs([("metric", "a"), ("samples", [[1, 1]])])
HEADLESS = Pairs([("samples", [[2, 2]])])


@given(st.lists(st.tuples(KEYS, TREES), max_size=4).map(Pairs) | TREES)
@settings(max_examples=500)
@example(Pairs([("series", [HEADED]), ("series", [HEADLESS])]))
@example(Pairs([("series", [HEADLESS, HEADED]), ("series", [HEADED, HEADLESS])]))
@example(Pairs([("s\\u0065ries", [HEADED]), ("series", [HEADLESS])]))
@example(Pairs([("series", [Pairs([("samples", [HEADED]), ("s\\u0061mples", [[2, 2]])])])]))
@example(Pairs([("series", [Pairs([("metric", HEADED), ("samples", [[2, 2]])])])]))
@example(Pairs([("x", [HEADED]), ("series", [HEADLESS])]))
def test_no_tree_with_duplicate_keys_misleads_the_fast_path(tree: Any) -> None:
    check(written(tree).encode())
    check(written(tree, " ").encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"series":[{"metric":"a","samples":[[1,1]]}],"series":[{"samples":[[2,2]]}]}',
        (  # three series of three arrays, and yet no JSON
            b'{"series":[{"metric":"a","samples":[[1,1]},{"metric":"b","samples":[2,2]]},'
            b'{"metric":"c","samples":[[3,3]],[[4,4]]}]}'
        ),
        b'{"series":[{"samples":[{"metric":"a","samples":[[1,1]]}],"samples" :[[2,2]]}]}',
        b'{"series":[{"metric":"a","samples":[[1,1]],"samples":[[2,2]]}]}',
        b'{"series":[{"metric":"a","samples":[[1,1]]},{"samples":[[2,2]]}]}',
        b'{"series":[{"metric":"a","help":"{\\"metric\\"","samples":[[1,1]]} ]} {"metric"',
        b'{"series":[{"metric":"a","samples":[[1,1]]}]}{"series":[]}',
        b'{"series":[{"metric":"a","metric":"9","samples":[[1,1]]}]}',
        b'{"series":[{"metric":"a","samples":[[1,1]]}]',
        b'{"series":[{"metric":"a\xff","samples":[[1,1]]}]}',
        b'{"series":[{"metric":"a","samples":[[1,NaN]]}]}',
        b'{"series":[{"metric":"a","samples":[[1,1,1]]}]}',
        b'{"series":[{"metric":"a","samples":[]}]}',
        b'{"series":[{"metric":"a}","samples":[[1,1]]}]}',
        b'{"series":[{"metric":"a","labels":{"x":"y","samples":[[1,1]]}]}',
        b'\xef\xbb\xbf{"series":[{"metric":"a","samples":[[1,1]]}]}',
        b'["metric",{"metric":"a","samples":[[1,1]]}]',
        b'{"series":[{"metric":"a","samples":[[1,1]],[[2,2]]},{"metric":"b","samples":[]}]}',
        b'{"series":[{"metric":"a","samples":[[1,2]},{"metric":"b","samples":[3,4]]}]}',
        (
            b'{"series":[{"metric":"a","samples":[[1,1]],[[2,2]]},{"metric":"b","samples":[[1,2]},'
            b'{"metric":"c","samples":[3,4]]}]}'
        ),
    ],
)
def test_invalid_bodies_are_left_to_the_careful_path(body: bytes) -> None:
    assert regular(body) is None


def test_the_last_of_duplicate_names_wins() -> None:
    body = b'{"series":[{"metric":"a","metric":"b","labels":{"x":"1","x":"2"},"samples":[[1,1]]}]}'

    assert check(body)


def test_a_head_that_was_known_and_is_forgotten_is_read_after_all() -> None:
    body = b'{"series":[{"metric":"a","labels":{"x":"1"},"samples":[[1,1]]}]}'

    decoded = decode_regular(body, MS, lambda keys: [7] * len(keys))

    assert decoded is not None
    assert decoded.name_of(0) == decoded_carefully(body).name_of(0)

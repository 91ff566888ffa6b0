"""Names of series: canonical labels, fingerprints, shards."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.model.labels import SHARDS, SeriesName, shard_of, to_fingerprints, to_labels

LABELS = st.dictionaries(st.text(min_size=1), st.text())


def test_labels_are_sorted_and_empty_ones_are_none() -> None:
    assert to_labels({"b": "2", "a": "1", "c": ""}) == (("a", "1"), ("b", "2"))


@given(LABELS)
def test_the_order_of_labels_and_empty_ones_name_no_other_series(labels: dict[str, str]) -> None:
    name = SeriesName.of("up", labels)

    assert SeriesName.of("up", dict(reversed(labels.items()))) == name
    assert SeriesName.of("up", {"an empty one": "", **labels}) == name


# Fingerprints and shards are in every database there is: these may never change.
@pytest.mark.parametrize(
    ("metric", "labels", "fingerprint", "shard"),
    [
        ("up", {}, "9cb7700e140bbd3d15cefeca09ba7aab", 16),
        ("node_load1", {"host": "web-1"}, "788a38303a957a21071506cff38497f9", 0),
        (
            "node_load1",
            {"instance": "a:9100", "job": "node", "host": "b"},
            "1373fa9744b5f9ba1b7ee3d874ec9b44",
            21,
        ),
        (
            "http.server.duration",
            {"service.name": "größe", "pod": "🚀"},
            "3d0e2efd92bd8e948339a929cf8eb39e",
            24,
        ),
        ("metric", {"a": "b", "c": "d"}, "5750dec3f5f8f977f7fee3b8d661bd55", 53),
    ],
)
def test_fingerprints_and_shards_stay_what_they_were(
    metric: str, labels: dict[str, str], fingerprint: str, shard: int
) -> None:
    name = SeriesName.of(metric, labels)

    assert name.fingerprint().hex() == fingerprint
    assert name.shard() == shard


@given(st.lists(st.builds(SeriesName.of, st.text(min_size=1), LABELS)))
def test_fingerprints_of_several_names_are_those_of_each(names: list[SeriesName]) -> None:
    expected = []
    for name in names:
        texts = [name.metric.encode(), *(part.encode() for pair in name.labels for part in pair)]
        encoded = [len(one).to_bytes(4, "little") + one for one in texts]
        expected.append(hashlib.blake2b(b"".join(encoded), digest_size=16).digest())

    assert to_fingerprints(names) == expected
    assert [name.fingerprint() for name in names] == expected


def test_where_a_name_ends_and_the_next_begins_makes_a_difference() -> None:
    names = [
        SeriesName.of("ab", {"c": "d"}),
        SeriesName.of("a", {"bc": "d"}),
        SeriesName.of("a", {"b": "cd"}),
        SeriesName.of("a", {"b": "c", "d": "e"}),
        SeriesName.of("a", {"b": "c", "de": "f"}),
        SeriesName.of("a", {"bcd": "e"}),
        SeriesName.of("abcde", {}),
    ]

    assert len({name.fingerprint() for name in names}) == len(names)


@given(LABELS, st.text())
def test_all_series_of_one_place_share_a_shard(labels: dict[str, str], metric: str) -> None:
    one = SeriesName.of(metric, labels | {"instance": "web-1"})
    other = SeriesName.of("up", {"instance": "web-1"})

    assert one.shard() == other.shard()
    assert 0 <= one.shard() < SHARDS


@pytest.mark.parametrize("label", ["instance", "host", "hostname", "node", "pod"])
def test_a_place_is_named_by_the_first_label_that_can(label: str) -> None:
    assert SeriesName.of("up", {label: "web-1", "zone": "z"}).shard() == (
        SeriesName.of("other", {"instance": "web-1", "pod": "elsewhere"}).shard()
    )


def test_places_spread_over_the_shards() -> None:
    shards = [SeriesName.of("up", {"host": f"web-{n}"}).shard() for n in range(6_400)]

    assert set(shards) == set(range(SHARDS))
    assert max(map(shards.count, range(SHARDS))) < 150


@given(st.integers(0, SHARDS - 1), st.integers(0, 2**57 - 1))
def test_an_id_contains_its_shard(shard: int, number: int) -> None:
    assert shard_of((number << 6) | shard) == shard

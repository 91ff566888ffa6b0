"""The series cache: bounded, keeps what is in use, and never mixes tenants or formats."""

from sys import getsizeof

from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.series.key_space import KeySpace

OURS = KeySpace(1, "native")
KIB = 1024


def filled(cache: SeriesCache, space: KeySpace, start: int, count: int) -> list[str]:
    keys = [f"key-{number:09}" for number in range(start, start + count)]
    for number, key in enumerate(keys, start):
        cache.add(space, key, number)
    return keys


def test_keys_are_found_in_their_order_and_the_others_are_none() -> None:
    cache = SeriesCache(64 * KIB)
    cache.add(OURS, "a", 1)
    cache.add(OURS, b"a", 2)

    assert cache.find(OURS, ["b", b"a", "a", "a"]) == [None, 2, 1, 1]
    assert cache.find(OURS, []) == []


def test_tenants_and_formats_do_not_share_keys() -> None:
    cache = SeriesCache(64 * KIB)
    cache.add(OURS, "a", 1)

    assert cache.find(KeySpace(2, "native"), ["a"]) == [None]
    assert cache.find(KeySpace(1, "influx"), ["a"]) == [None]


def test_unused_entries_are_evicted_eventually() -> None:
    cache = SeriesCache(64 * KIB)
    [first] = filled(cache, OURS, 0, 1)

    filled(cache, OURS, 1, 1_000)

    assert cache.find(OURS, [first]) == [None]


def test_used_entries_are_kept_however_many_others_are_added() -> None:
    cache = SeriesCache(64 * KIB)
    used = filled(cache, OURS, 0, 50)

    for start in range(1_000, 20_000, 50):
        filled(cache, OURS, start, 50)
        assert cache.find(OURS, used) == list(range(50))


def test_memory_is_bounded_whatever_the_keys() -> None:
    bound = 256 * KIB
    for make_key in (
        lambda n: f"{n:0500}",
        lambda n: f"{n:05}".encode(),
        lambda n: "ü🚀" * 99 + str(n),
    ):
        cache = SeriesCache(bound)
        for number in range(20_000):
            cache.add(OURS, make_key(number), number)
        assert held_bytes(cache) < bound


def test_a_sequence_is_found_only_where_every_key_is_the_same() -> None:
    cache = SeriesCache(KIB * KIB)
    keys = filled(cache, OURS, 0, 100)
    assert cache.find(OURS, keys) == list(range(100))
    assert cache.find(OURS, list(keys)) == list(range(100))

    swapped = [*keys[:50], keys[51], keys[50], *keys[52:]]
    assert cache.find(OURS, swapped) == [*range(50), 51, 50, *range(52, 100)]
    assert cache.find(OURS, [*keys[:-1], "other"]) == [*range(99), None]
    assert cache.find(KeySpace(2, "native"), keys) == [None] * 100


def test_a_cached_sequence_is_independent_of_the_callers_list() -> None:
    cache = SeriesCache(KIB * KIB)
    keys = filled(cache, OURS, 0, 100)
    cache.find(OURS, keys)

    keys[7] = "other"

    assert cache.find(OURS, keys)[7] is None


def test_sequences_are_bounded_too() -> None:
    bound = 256 * KIB
    cache = SeriesCache(bound)
    for start in range(0, 20_000, 20):
        cache.find(OURS, filled(cache, OURS, start, 20))
        assert held_bytes(cache) < bound


def held_bytes(cache: SeriesCache) -> int:
    generations = (cache._young, cache._old)
    single = sum(getsizeof(key) for one in generations for keys in one.values() for key in keys)
    return single + sum(sum(map(getsizeof, one.keys)) for one in cache._sequences.values())

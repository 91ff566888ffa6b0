"""The series cache: bounded, keeps what is in use, and never answers for somebody else."""

from sys import getsizeof

from infrawatch.ingest.series_cache import SeriesCache, Space

OURS = Space(1, "native")
KIB = 1024


def filled(cache: SeriesCache, space: Space, start: int, count: int) -> list[str]:
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

    assert cache.find(Space(2, "native"), ["a"]) == [None]
    assert cache.find(Space(1, "influx"), ["a"]) == [None]


def test_what_is_not_used_is_forgotten_at_last() -> None:
    cache = SeriesCache(64 * KIB)
    [first] = filled(cache, OURS, 0, 1)

    filled(cache, OURS, 1, 1_000)

    assert cache.find(OURS, [first]) == [None]


def test_what_is_used_is_kept_however_much_comes_by() -> None:
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


def held_bytes(cache: SeriesCache) -> int:
    generations = (cache._young, cache._old)
    return sum(getsizeof(key) for one in generations for keys in one.values() for key in keys)

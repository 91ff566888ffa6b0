"""Series that are kept: found by their ids, and never more than there is room for."""

from infrawatch.store.selection.catalog import Series, SeriesCatalog


def of(ids: range) -> dict[int, Series]:
    return {n: Series(n, "up", {"n": str(n)}) for n in ids}


def test_cached_series_are_found_by_id() -> None:
    known = SeriesCatalog()

    known.keep(of(range(10)), 100)
    known.keep(of(range(5, 15)), 100)

    assert known.find(range(12, 20)) == of(range(12, 15))
    assert list(known.find([7, 3])) == [7, 3]


def test_the_cache_stays_within_its_bound() -> None:
    known = SeriesCatalog(max_bytes=100_000)

    for first in range(0, 10_000, 50):
        known.keep(of(range(first, first + 50)), 1_000)
        assert known.find(range(first, first + 50)) == of(range(first, first + 50))
        assert len(known) <= 200
    known.keep(of(range(20_000, 20_010)), 200_000)

    assert not known.find(range(20_000, 20_010))
    assert known.find(range(9_950, 10_000)) == of(range(9_950, 10_000))

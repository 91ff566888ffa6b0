"""Names are read once, and no more of them than one request may bring."""

from collections.abc import Sequence

import numpy as np
from formats import read_all_names

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.ingest.series.naming import MAX_NEW_LABELS, MAX_NEW_SERIES, TOO_MANY_NEW
from infrawatch.ingest.verdicts import MAX_SHOWN, Verdict
from infrawatch.model.labels import SeriesName


def decoded(keys: Sequence[str], asked: list[int], samples: int = 2) -> Decoded:
    """A batch with that many samples per series, which records the requested names."""

    def name_of(number: int) -> SeriesName | list[Verdict]:
        asked.append(number)
        if keys[number] == "bad":
            return [Verdict(number, "here", "invalid_metric", "why", samples)]
        return SeriesName.of(keys[number], {})

    count = len(keys)
    return Decoded(
        keys=keys,
        name_of=name_of,
        locate=lambda number, sample: (number, f"series {number}, sample {sample}"),
        counts=np.full(count, samples, np.intp),
        times=np.zeros(count * samples, np.int64),
        values=np.zeros(count * samples),
        unit_ns=1,
    )


def test_only_unknown_series_are_read_and_each_once() -> None:
    asked: list[int] = []
    batch = decoded(["up", "load", "up", "known", "load"], asked)

    names = read_all_names(batch, [None, None, None, 7, None])

    assert {number: name.metric for number, name in names.items()} == {
        0: "up",
        1: "load",
        2: "up",
        4: "load",
    }
    assert asked == [0, 1]
    assert not batch.verdicts


def test_each_invalid_series_gets_a_verdict() -> None:
    asked: list[int] = []
    batch = decoded(["bad", "up", "bad"], asked)

    names = read_all_names(batch, [None] * 3)

    assert list(names) == [1]
    assert [one.index for one in batch.verdicts] == [0, 2]


def test_beyond_the_limit_new_series_are_refused_by_name_and_others_stored() -> None:
    asked: list[int] = []
    keys = [f"m{number}" for number in range(MAX_NEW_SERIES + 200)]
    batch = decoded([*keys, "m0", "known"], asked)

    names = read_all_names(batch, [*[None] * (len(keys) + 1), 7])

    assert len(asked) == MAX_NEW_SERIES
    assert len(names) == MAX_NEW_SERIES + 1
    assert names[len(keys)].metric == "m0"
    assert len(batch.verdicts.shown) == MAX_SHOWN
    assert batch.verdicts.shown[0].locator == f"series {MAX_NEW_SERIES}, sample 0"
    assert batch.verdicts.samples_by_code == {TOO_MANY_NEW: 400}


def test_labels_count_too() -> None:
    count = MAX_NEW_LABELS // MAX_LABELS + 10
    wide = {f"l{label}": "x" for label in range(MAX_LABELS)}
    batch = decoded([f"m{number}" for number in range(count)], [], samples=1)
    batch.name_of = lambda number: SeriesName.of(f"m{number}", wide)

    names = read_all_names(batch, [None] * count)

    assert len(names) == MAX_NEW_LABELS // MAX_LABELS + 1
    assert batch.verdicts.rejected_samples == count - len(names)


def test_a_flood_of_wrong_names_is_not_read_to_its_end() -> None:
    asked: list[int] = []
    batch = decoded(["bad"] * (MAX_NEW_SERIES + 1), asked, samples=1)

    assert read_all_names(batch, [None] * (MAX_NEW_SERIES + 1)) == {}
    assert len(asked) == MAX_NEW_SERIES
    assert batch.verdicts.rejected_samples == MAX_NEW_SERIES + 1

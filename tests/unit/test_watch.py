"""The table of `infrawatch watch`."""

from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console

from infrawatch.cli.watch import Picture
from infrawatch.client.live import LiveUpdate
from infrawatch.client.series import Sample, Series

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def shown(picture: Picture) -> str:
    console = Console(width=100, file=StringIO())
    with console.capture() as capture:
        console.print(picture.table())
    return capture.get()


def update(labels: dict[str, str], *samples: tuple[int, float | None]) -> LiveUpdate:
    taken = [Sample(NOON + timedelta(seconds=second), value) for second, value in samples]
    return LiveUpdate([Series("m", labels, taken)])


def test_it_shows_the_last_sample_of_each_series() -> None:
    picture = Picture("m")
    picture.apply(update({"b": "2"}, (1, 0.25), (3, 0.75), (2, 0.5)))
    picture.apply(update({"a": "1"}, (5, 7)))
    picture.apply(update({"b": "2"}, (2, 9)))  # late

    lines = shown(picture).splitlines()
    assert lines[0].startswith("m: 2 series, 0 gaps")
    [a, b] = [line for line in lines if line.startswith("│")]
    assert ('m{a="1"}' in a, 'm{b="2"}' in b) == (True, True)
    assert ("7" in a, "0.75" in b) == (True, True)


def test_ended_series_and_missed_samples_are_shown() -> None:
    picture = Picture("m")
    picture.apply(update({}, (1, None))._replace(gap="slow_viewer"))
    assert "ended" in shown(picture)
    assert "1 gaps" in shown(picture)

"""The label that grew most is named, whether its series come together or one by one."""

from infrawatch.ingest.series import label_growth
from infrawatch.ingest.series.label_growth import LabelGrowth
from infrawatch.model.labels import SeriesName


def named(path: str) -> SeriesName:
    return SeriesName.of("requests", {"host": "a", "path": path})


def test_the_label_with_the_most_values_is_found() -> None:
    growth = LabelGrowth()
    for number in range(3):
        growth.add(named(f"/{number}"))
    growth.add(named("/0"))  # sent again

    assert growth.find_largest() == ("path", 3)


def test_a_metric_for_every_series_is_found() -> None:
    growth = LabelGrowth()
    for number in range(3):
        growth.add(SeriesName.of(f"requests_{number}", {"host": "a"}))

    assert growth.find_largest() == ("__name__", 3)


def test_it_counts_the_latest_values_and_not_ever_more() -> None:
    growth = LabelGrowth()
    most = label_growth._MAX_VALUES
    for number in range(10 * most):
        growth.add(named(f"/{number}"))

    label, values = growth.find_largest()
    assert label == "path"
    assert most / 2 < values <= 2 * most

"""Names as all protocols but the native one may bring them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.ingest.decoding.names import MAX_NAME_CHARACTERS, Flaw, to_series_name
from infrawatch.ingest.schemas import MAX_LABELS
from infrawatch.model.labels import SeriesName

LONG = "x" * MAX_NAME_CHARACTERS
TEXTS = st.text(
    st.sampled_from(("a", "é", " ", "\u00a0", "\u2028", "\x00", "\x7f", "\x85", "\ud800"))
)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_disallowed_characters_in_a_text_are_found(metric: str, labels: dict[str, str]) -> None:
    kept = {name: value for name, value in labels.items() if value}
    names = [metric, *kept]
    is_good = (
        all(names)
        and not any(one in name for name in names for one in "\x00\x7f\x85\ud800")
        and not any(one in value for value in kept.values() for one in "\x00\ud800")
    )

    found = to_series_name(metric, labels.items())

    assert found == SeriesName.of(metric, labels) if is_good else isinstance(found, Flaw)


@pytest.mark.parametrize(
    ("metric", "pairs", "code"),
    [
        ("", (), "invalid_metric"),
        (LONG, ((LONG, "v"),), None),
        (LONG + "x", (), "too_long"),
        ("m", ((LONG + "x", "v"),), "too_long"),
        ("m", (("a", "v" * 4_096),), None),
        ("m", (("a", "v" * 4_097),), "too_long"),
        ("m", (("a", "1"), ("a", "2")), "duplicate_label"),
        ("m", (("a", "1"), ("a", "")), None),
        ("m", (("", "1"),), "invalid_label_name"),
        ("m", (("__name__", "n"),), "invalid_label_name"),
        ("m", [(f"a{n}", "v") for n in range(MAX_LABELS)], None),
        ("m", [(f"a{n}", "v") for n in range(MAX_LABELS + 1)], "too_many_labels"),
    ],
)
def test_a_name_has_its_bounds(metric: str, pairs: list[tuple[str, str]], code: str | None) -> None:
    found = to_series_name(metric, pairs)

    assert (found.code if isinstance(found, Flaw) else None) == code

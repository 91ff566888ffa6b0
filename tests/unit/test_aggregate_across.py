"""Several series to one, against plain Python."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.query.across import Across, combine
from infrawatch.query.steps import Table

ROWS = 3

cells = st.one_of(
    st.none(),
    st.integers(-3, 3).map(float),
    st.floats(-1e9, 1e9),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
tables = st.integers(0, 5).flatmap(
    lambda steps: st.lists(st.lists(cells, min_size=steps, max_size=steps), min_size=1, max_size=8)
)
PLAIN: dict[Across, Callable[[list[float]], float]] = {
    Across.SUM: sum,
    Across.AVG: lambda values: sum(values) / len(values),
    Across.MIN: min,
    Across.MAX: max,
    Across.COUNT: len,
}


def table_of(rows: list[list[float | None]]) -> Table:
    """A table in which None is an empty step; read-only."""
    empty = np.array([[cell is None for cell in row] for row in rows], np.bool_)
    values = np.array([[math.nan if cell is None else cell for cell in row] for row in rows])
    empty.flags.writeable = values.flags.writeable = False
    return Table(values, empty)


def plain(across: Across, values: list[float]) -> float:
    if across is not Across.COUNT and any(map(math.isnan, values)):
        return math.nan
    return PLAIN[across](values)


@pytest.mark.parametrize("across", Across)
@given(cells=tables, data=st.data())
def test_series_combine_as_plain_python_combines_them(
    across: Across, cells: list[list[float | None]], data: st.DataObject
) -> None:
    into = data.draw(
        st.lists(st.integers(0, ROWS - 1), min_size=len(cells), max_size=len(cells)), "into"
    )
    combined = combine(table_of(cells), across, into=np.array(into), rows=ROWS)

    assert combined.values.shape == combined.empty.shape == (ROWS, len(cells[0]))
    for row in range(ROWS):
        members = [
            of_series for target, of_series in zip(into, cells, strict=True) if target == row
        ]
        in_steps = [
            [cell for series in members if (cell := series[step]) is not None]
            for step in range(len(cells[0]))
        ]
        expected = [plain(across, values) if values else math.nan for values in in_steps]
        assert combined.empty[row].tolist() == [not values for values in in_steps]
        np.testing.assert_allclose(combined.values[row], expected, rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize("across", Across)
def test_a_row_into_which_no_series_goes_is_empty(across: Across) -> None:
    combined = combine(table_of([[1.0, 2.0]]), across, into=np.array([1]), rows=3)

    assert combined.empty.tolist() == [[True, True], [False, False], [True, True]]


@pytest.mark.parametrize("across", Across)
def test_no_series_combine_to_nothing(across: Across) -> None:
    combined = combine(Table.blank(0, 4), across, into=np.empty(0, np.intp), rows=2)

    assert combined.empty.tolist() == [[True] * 4] * 2


def test_empty_steps_add_nothing_not_even_a_sign() -> None:
    table = table_of([[-0.0], [None]])
    combined = combine(table, Across.SUM, into=np.array([0, 0]), rows=1)

    assert math.copysign(1.0, combined.values[0, 0]) == -1.0


def test_the_lowest_of_infinities_is_no_empty_step() -> None:
    table = table_of([[math.inf, None], [None, -math.inf]])
    into = np.array([0, 0])

    assert combine(table, Across.MIN, into=into, rows=1).values.tolist() == [[math.inf, -math.inf]]
    assert combine(table, Across.MAX, into=into, rows=1).values.tolist() == [[math.inf, -math.inf]]


def test_the_same_table_gives_the_same_bits_in_whatever_rows_it_ends_up() -> None:
    random = np.random.default_rng(3)
    table = Table(random.normal(size=(1000, 7)) * 1e6, random.random((1000, 7)) < 0.3)
    into = random.integers(0, 10, 1000)
    one_way = combine(table, Across.SUM, into=into, rows=10)
    the_other = combine(table, Across.SUM, into=9 - into, rows=10)

    assert one_way.values.tobytes() == the_other.values[::-1].tobytes()

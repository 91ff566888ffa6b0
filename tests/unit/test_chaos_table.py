"""The documentation tells of every scenario there is, and of none that there is not."""

import re
from pathlib import Path

from chaos.catalogue import CRASHES, SCENARIOS
from chaos.ledger import Found
from chaos.world import Outcome, to_table

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
ROW = re.compile(r"(?m)^\| (.*?) \| ([\d,]+) \| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \| (.*) \|$")


def test_the_page_has_a_row_for_each_scenario_and_nothing_is_missing() -> None:
    rows = ROW.findall(PAGE.read_text("utf-8"))

    assert [name for name, *_ in rows] == [*(one.name for one in SCENARIOS), CRASHES]
    assert {(missing, doubled, errors) for _, _, _, missing, doubled, errors, _ in rows} == {
        ("0", "0", "0")
    }


def test_a_row_has_what_is_missing_and_the_duration() -> None:
    found = Found(missing=1, doubled=2)
    outcome = Outcome(3, acknowledged=1_234, errors_500=4, found=found, recoveries_s=[0.5, 1, 9])

    [row] = ROW.findall(to_table({"fault": outcome}))

    assert row == ("fault", "3", "1,234", "1", "2", "4", "1.0, at most 9.0")

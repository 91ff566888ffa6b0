"""The audit of dependencies fails on findings, and never claims what it could not find out."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

SPEC = spec_from_file_location("audit", Path(__file__).parents[2] / ".ci" / "audit.py")
assert SPEC is not None
assert SPEC.loader is not None
audit = module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {
    "name": "bad",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}],
}
UNKNOWN = {"name": "ours", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "errors", "code", "expected"),
    [
        ([GOOD, UNKNOWN], "", 0, "1 packages have no known weakness"),
        ([GOOD, UNKNOWN], "", 0, "nothing is known of ours: these were not audited"),
        ([GOOD, BAD, UNKNOWN], "", 1, "KNOWN WEAKNESS  bad 1.0: PYSEC-1, fixed in 1.1"),
        ([UNKNOWN, UNKNOWN], "", 0, "SKIPPED"),
        (None, "requests.exceptions.ConnectionError: no route", 0, "SKIPPED"),
        (None, "TypeError: something broke", 1, "something broke"),
    ],
)
def test_findings_of_pip_audit_are_judged(
    dependencies: list[dict[str, Any]] | None,
    errors: str,
    code: int,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = "" if dependencies is None else json.dumps({"dependencies": dependencies})

    assert audit.judge(report, errors) == code
    told = capsys.readouterr()
    assert expected in told.out + told.err

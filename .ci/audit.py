"""Fails if a package we are built from has a known weakness; says so if nobody could be asked.

The list of weaknesses is on the network. Where it cannot be reached, or what stands in for it
knows none of our packages, that is no finding, and no proof of anything either.
"""

import json
import subprocess
import sys
from typing import Any

PATIENCE_S = 300
AUDIT = (sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off")
FLAGS = ("--local", "--skip-editable", "--timeout=10")
NO_ANSWER = ("ConnectionError", "Could not connect", "Max retries", "timed out", "ServiceError")


def main() -> int:
    """Ask, and say what came of it in as few lines as possible."""
    try:
        done = subprocess.run(
            [*AUDIT, *FLAGS], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return skipped(f"no answer within {PATIENCE_S} s")
    return judge(done.stdout, done.stderr)


def judge(report: str, errors: str) -> int:
    """The exit code for what pip-audit said: 1 for findings, and for an audit that broke."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        if any(words in errors for words in NO_ANSWER):
            return skipped("the list of known weaknesses cannot be reached")
        print(f"pip-audit failed:\n{errors or report}", file=sys.stderr)
        return 1
    audited = [one for one in dependencies if "skip_reason" not in one]
    if not audited:
        return skipped("the package index here does not tell of weaknesses")
    findings = [
        f"{one['name']} {one['version']}: {found['id']}, fixed in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for one in audited
        for found in one["vulns"]
    ]
    for finding in findings:
        print(f"KNOWN WEAKNESS  {finding}", file=sys.stderr)
    if unknown := [one["name"] for one in dependencies if "skip_reason" in one]:
        print(f"nothing is known of {', '.join(unknown)}: these were not audited", file=sys.stderr)
    if not findings:
        print(f"{len(audited)} packages have no known weakness")
    return 1 if findings else 0


def skipped(reason: str) -> int:
    print(f"!!! AUDIT OF DEPENDENCIES SKIPPED: {reason} !!!", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

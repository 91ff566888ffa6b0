"""Prints what CHANGELOG.md says of a version, for the page of its release.

sh .ci/python .ci/release_notes.py 0.1.0
"""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"
HEADING = re.compile(r"^## \[?v?([\w.+-]+)\]?.*$", re.MULTILINE)


def main(version: str) -> None:
    """Print the notes, or leave with what is missing."""
    print(notes_of(version.removeprefix("v"), CHANGELOG.read_text(encoding="utf-8")))


def notes_of(version: str, changelog: str) -> str:
    """What stands beneath the heading of a version.

    Raises:
        SystemExit: there is no such heading, or nothing beneath it.
    """
    parts = HEADING.split(changelog)
    notes = dict(zip(parts[1::2], parts[2::2], strict=True))
    if version not in notes:
        known = ", ".join(notes)
        sys.exit(f"CHANGELOG.md has nothing on {version}, only on {known}: add `## {version}`.")
    if not notes[version].strip():
        sys.exit(f"CHANGELOG.md has a heading for {version}, and nothing beneath it.")
    return notes[version].strip()


if __name__ == "__main__":
    main(sys.argv[1])

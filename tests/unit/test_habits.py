"""What CI, pre-commit and releases do is what a checkout does."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import GIVEN

from infrawatch.cli.doctor import NEWEST, OLDEST

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
NOTES = ROOT / ".ci" / "release_notes.py"
SUPPORTED = re.search(
    r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
)


def read(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return workflow


CI = read(".github/workflows/ci.yml")
WORKFLOWS = [CI, read(".github/workflows/release.yml")]
COMMANDS = [
    step["run"]
    for workflow in WORKFLOWS
    for job in workflow["jobs"].values()
    for step in job["steps"]
    if "run" in step
]


def test_the_workflow_runs_what_a_checkout_runs() -> None:
    assert CI["permissions"] == {"contents": "read"}
    assert {"run": ".ci/run"} in CI["jobs"]["test"]["steps"]
    assert {"lint", "test", "postgres", "package", "image", "openapi"} <= CI["jobs"].keys()


def test_the_workflow_runs_on_every_python_and_postgresql_that_we_say_we_run_on() -> None:
    assert SUPPORTED is not None
    pythons = [f"3.{minor}" for minor in range(int(SUPPORTED[1]), int(SUPPORTED[2]))]
    postgres = CI["jobs"]["postgres"]

    assert CI["jobs"]["test"]["strategy"]["matrix"]["python"] == pythons
    versions = [str(version) for version in range(OLDEST, NEWEST + 1)]
    assert postgres["strategy"]["matrix"]["postgres"] == versions
    assert postgres["env"][GIVEN].startswith("postgresql://")


def test_workflows_call_targets_and_scripts_that_exist() -> None:
    text = "\n".join(COMMANDS)
    targets = re.findall(r"\bmake ([\w-]+)", text)
    scripts = re.findall(r"(\.ci/[\w./]+)", text)

    assert {"check", "test", "release-check"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    assert scripts
    for script in scripts:
        assert (ROOT / script).is_file(), script


def test_pre_commit_runs_the_tools_of_a_checkout() -> None:
    [repository] = read(".pre-commit-config.yaml")["repos"]
    entries = {hook["id"]: hook["entry"] for hook in repository["hooks"]}

    assert repository["repo"] == "local"
    for tool in ("ruff format", "ruff check", "mypy"):
        assert any(tool in entry and tool in MAKEFILE for entry in entries.values()), tool
    for program in (entry.split()[0] for entry in entries.values()):
        assert program == "sh" or os.access(ROOT / program, os.X_OK), program


@pytest.mark.parametrize(
    ("subject", "fits"),
    [
        ("store: chunks are packed", True),
        ("docs, tests: both", True),
        ("Merge branch 'a'", True),
        ("Fix it", False),
        ("store:", False),
        ("", False),
    ],
)
def test_a_commits_subject_names_its_room(subject: str, fits: bool, tmp_path: Path) -> None:
    [repository] = read(".pre-commit-config.yaml")["repos"]
    [entry] = [hook["entry"] for hook in repository["hooks"] if hook["id"] == "subject"]
    message = tmp_path / "message"
    message.write_text(f"{subject}\n\nBody, without a room\n")

    ran = subprocess.run(f"{entry} {message}", shell=True, check=False)

    assert (ran.returncode == 0) == fits


def test_release_notes_are_what_the_changelog_says() -> None:
    notes_of = runpy.run_path(str(NOTES))["notes_of"]
    changelog = (
        "# Changelog\n\n## 0.2.0 - 2026-12-01\n\n- New.\n\n## [0.1.0]\n\n### Added\n- Old.\n"
    )

    assert notes_of("0.2.0", changelog) == "- New."
    assert notes_of("0.1.0", changelog) == "### Added\n- Old."
    with pytest.raises(SystemExit, match=r"only on 0\.2\.0, 0\.1\.0: add `## 0\.3\.0`"):
        notes_of("0.3.0", changelog)
    with pytest.raises(SystemExit, match="nothing beneath it"):
        notes_of("1.0.0", "## 1.0.0\n\n## 0.9.0\n")


def test_the_changelog_can_be_released() -> None:
    printed = subprocess.check_output([sys.executable, NOTES, "Unreleased"], text=True)
    assert printed.strip()
    assert printed.strip() in CHANGELOG

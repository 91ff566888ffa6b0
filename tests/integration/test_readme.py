"""The README's examples work when pasted, and its statements about the checkout are true."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic_settings import BaseSettings

from infrawatch.app import create_app
from infrawatch.embedded.binaries import find_binaries
from infrawatch.settings import AgentSettings, LogSettings, Settings

ROOT = Path(__file__).parents[2]
README_PAGE = "README.md"
README = (ROOT / README_PAGE).read_text(encoding="utf-8")
DOC_PAGES = [f"docs/{one.name}" for one in sorted(ROOT.glob("docs/*.md"))]
PAGES = (README_PAGE, "docs/quickstart.md", "docs/querying.md", "docs/pushing.md")

ALL_SETTINGS: Sequence[type[BaseSettings]] = (Settings, AgentSettings, LogSettings)


class Example(NamedTuple):
    language: str
    code: str
    answers: list[str]


def examples(page: str) -> list[Example]:
    """The blocks marked `tested`; lines of theirs that begin with `# ` are what is answered."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(sh|python) tested\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        Example(language, code, re.findall(r"^# (.+)$", code, re.MULTILINE))
        for language, code in found
    ]


def fits(answer: str, output: str) -> bool:
    """Whether the output has a line like this; `…` stands for anything."""
    pattern = "[^\n]*".join(re.escape(part).replace("\\ ", " +") for part in answer.split("…"))
    return re.search(pattern, output) is not None


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here to paste into")
@pytest.mark.parametrize("page", PAGES)
async def test_the_examples_of_the_documentation_work_when_pasted(
    server: str, database_url: str, page: str
) -> None:
    programs = (Path(sys.executable).parent, find_binaries().root / "bin", os.environ["PATH"])
    environment = {**os.environ, "PATH": os.pathsep.join(map(str, programs))}
    interpreters = {"sh": ["sh", "-eu", "-c"], "python": [sys.executable, "-c"]}
    assert examples(page)

    for language, code, answers in examples(page):
        here = code.replace("http://127.0.0.1:8000", server)
        here = here.replace("$(.venv/bin/infrawatch database-url)", database_url)
        process = await asyncio.create_subprocess_exec(
            *interpreters[language], here, env=environment, stdout=PIPE, stderr=STDOUT
        )
        output = (await process.communicate())[0].decode()

        assert process.returncode == 0, output
        assert answers
        for answer in answers:
            assert fits(answer, output), f"{answer}\n\nwas not answered, but\n\n{output}"


def test_the_readme_names_settings_that_exist() -> None:
    named = set(re.findall(r"INFRAWATCH_[A-Z0-9_]+", README))

    assert len(named) > 3
    assert named <= {
        f"INFRAWATCH_{name.upper()}" for one in ALL_SETTINGS for name in one.model_fields
    }


@pytest.mark.parametrize("page", [README_PAGE, *DOC_PAGES])
def test_pages_name_routes_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:GET|PUT|POST|DELETE) /[^` ?]*)", text)
    routes = [
        re.compile(f"{method.upper()} {re.sub('{[^}]+}', '.+', path)}")
        for path, operations in create_app(Settings()).openapi()["paths"].items()
        for method in operations
    ]

    assert [one for one in named if not any(route.fullmatch(one) for route in routes)] == []


def test_guarantees_name_tests_that_exist() -> None:
    guarantees = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", guarantees))
    sources = "".join(one.read_text(encoding="utf-8") for one in ROOT.glob("tests/*/test_*.py"))

    assert len(named) > 10
    assert named <= set(re.findall(r"def (test_\w+)\(", sources))


@pytest.mark.parametrize("page", [README_PAGE, *DOC_PAGES])
def test_pages_link_to_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!http|#)([^)#]+)[^)]*\)", text)

    assert [path for path in linked if not (ROOT / page).parent.joinpath(path).exists()] == []


def test_the_path_of_a_sample_names_functions_that_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+(?:/\w+)*\.py)`((?: `[\w.]+`,?)+)", page)
    missing = [
        f"{path}: {name}"
        for path, names in named
        for name in re.findall(r"\w+", names)
        if not re.search(
            rf"^ *(?:class|(?:async )?def) {name}\b",
            (ROOT / "src/infrawatch" / path).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    ]

    assert len(named) > 10
    assert missing == []

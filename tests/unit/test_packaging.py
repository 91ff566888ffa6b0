"""The image, the compose file and the workflow say what is so in this checkout."""

import json
import re
import runpy
import subprocess
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pytest
import yaml
from compose_spec import PyOptions
from dockerfile_parse import DockerfileParser
from pydantic_settings import BaseSettings
from typer import Context
from typer.main import get_group

from infrawatch.cli.commands import app
from infrawatch.settings import AgentSettings, LogSettings, Settings

ROOT = Path(__file__).parents[2]
SETUP = runpy.run_path(str(ROOT / ".ci" / "setup.py"))

ALL_SETTINGS: Sequence[type[BaseSettings]] = (Settings, AgentSettings, LogSettings)
VARIABLES = {f"INFRAWATCH_{name.upper()}" for one in ALL_SETTINGS for name in one.model_fields}


class Instruction(NamedTuple):
    stage: int
    name: str
    rest: str


def read_dockerfile() -> Iterator[Instruction]:
    with (ROOT / "Dockerfile").open("rb") as file:
        parser = DockerfileParser(fileobj=file)
        stage = -1
        for one in parser.structure:
            if one["instruction"] == "COMMENT":
                continue
            stage += one["instruction"] == "FROM"
            yield Instruction(stage, one["instruction"], one["value"])


DOCKERFILE = list(read_dockerfile())
LAST_STAGE = DOCKERFILE[-1].stage


def instructions(name: str, *, stage: int | None = None) -> list[str]:
    return [one.rest for one in DOCKERFILE if one.name == name and stage in (None, one.stage)]


def is_left_out(path: str) -> bool:
    """Whether .dockerignore excludes a path: the last pattern for it or a parent wins."""
    parts = [path, *map(str, PurePosixPath(path).parents)]
    left_out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(fnmatch(part, pattern) for part in parts):
            left_out = not line.startswith("!")
    return left_out


def test_files_that_the_image_copies_exist() -> None:
    copied = [rest.split() for rest in instructions("COPY") if not rest.startswith("--from")]

    assert len(copied) > 3
    for *sources, _ in copied:
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not is_left_out(source), source


def test_files_needed_only_on_this_machine_are_left_out_of_the_image() -> None:
    for path in (".env", ".git", ".venv", "tests", "dashboard/node_modules", ".infrawatch"):
        assert is_left_out(path), path
    assert is_left_out("src/infrawatch/store/__pycache__")
    assert is_left_out("src/infrawatch/web/dist")


def test_the_image_has_the_scripts_that_a_checkout_has() -> None:
    [copying] = [rest for rest in instructions("RUN", stage=0) if " cp " in rest]

    assert re.findall(r"\S+\.(?:js|css|png)", copying) == list(SETUP["PAGE_FILES"])


def test_the_image_is_installed_by_the_poetry_that_a_checkout_is() -> None:
    assert f"pip install --no-cache-dir {' '.join(SETUP['POETRY'])}" in instructions("RUN")


def test_the_image_has_one_python_and_it_is_one_we_run_on() -> None:
    pythons = {base.split()[0] for base in instructions("FROM") if base.startswith("python:")}

    [python] = pythons
    match = re.fullmatch(r"python:3\.(\d+)-slim", python)
    assert match is not None
    assert 11 <= int(match[1]) < 15


def test_the_image_does_not_run_as_root() -> None:
    last = [one.name for one in DOCKERFILE if one.stage == LAST_STAGE]

    [user] = instructions("USER", stage=LAST_STAGE)
    assert int(user) > 0  # Kubernetes cannot know whether a name is root's
    assert "RUN" not in last[last.index("USER") :]
    assert any(f"useradd --uid {user} --create-home" in rest for rest in instructions("RUN"))


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD", "HEALTHCHECK"])
def test_the_image_starts_its_command_without_a_shell(name: str) -> None:
    [rest] = instructions(name, stage=LAST_STAGE)

    command = json.loads(rest.rpartition("CMD ")[2])
    assert command
    assert all(isinstance(word, str) for word in command)


def test_the_image_is_healthy_when_the_server_is_ready() -> None:
    assert instructions("HEALTHCHECK")[0].endswith('CMD ["infrawatch", "healthcheck"]')


def test_the_image_sets_variables_that_exist() -> None:
    names = re.findall(r"\bINFRAWATCH_\w+", " ".join(instructions("ENV")))

    assert len(names) > 1
    assert VARIABLES.issuperset(names)


# As Docker would, where none of the variables is set.
COMPOSE_TEXT = re.sub(
    r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
)
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, one in SERVICES.items() if one["image"] == "infrawatch"}


def test_compose_follows_its_specification() -> None:
    compose = PyOptions(apply_merge=True).from_yaml(COMPOSE_TEXT)
    compose.validate()
    assert set(compose.service_names()) == set(SERVICES)

    for wrong in ("restart: never", "read_only: 7", "cap_dropp: [ALL]"):
        with pytest.raises(ValueError, match=r"\w"):
            PyOptions().from_yaml(f"services: {{a: {{image: b, {wrong}}}}}").validate()


def test_compose_starts_everything_there_is() -> None:
    assert set(SERVICES) == {"postgres", "redis", "init", "api", "nginx", "agent"}
    assert {"init", "api", "agent"} == OURS
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["api"]["deploy"]["replicas"] == 2


def test_compose_is_read_only_outside_volumes() -> None:
    for name in (*OURS, "nginx"):
        assert SERVICES[name]["read_only"], name
        assert SERVICES[name]["cap_drop"] == ["ALL"], name
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"], name


def test_compose_publishes_nothing_beyond_this_machine() -> None:
    ports = [port for one in SERVICES.values() for port in one.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_calls_commands_that_exist_with_variables_that_exist() -> None:
    commands = {name: SERVICES[name]["command"][0] for name in OURS}

    assert (commands["api"], commands["agent"]) == ("serve", "agent")
    called = re.findall(r"infrawatch (\w+)", commands["init"])
    assert called == ["migrate", "keys"]
    group = get_group(app)
    assert set(group.list_commands(Context(group))).issuperset({"serve", "agent", *called})
    for name in OURS:
        assert VARIABLES.issuperset(SERVICES[name]["environment"])


def test_the_agents_key_is_where_init_has_put_it() -> None:
    key = SERVICES["agent"]["environment"]["INFRAWATCH_KEY_FILE"]

    assert SERVICES["init"]["command"][0].split()[-2:] == ["--to-file", key]
    for name in ("init", "agent"):
        mounts = [mount.split(":")[:2] for mount in SERVICES[name]["volumes"]]
        assert ["keys", str(PurePosixPath(key).parent)] in mounts
    assert str(PurePosixPath(key).parent) in " ".join(instructions("RUN", stage=LAST_STAGE))


def test_compose_waits_for_what_a_service_needs() -> None:
    for name, one in SERVICES.items():
        for needed, how in one.get("depends_on", {}).items():
            is_checked = how["condition"] == "service_healthy"
            assert needed in SERVICES, name
            assert is_checked or SERVICES[needed]["restart"] == "no"
            disabled = SERVICES[needed].get("healthcheck", {}).get("disable", False)
            assert not (is_checked and disabled)


def test_compose_keeps_data_in_volumes_that_it_declares() -> None:
    mounted = [mount.split(":")[0] for one in SERVICES.values() for mount in one.get("volumes", ())]

    assert {mount for mount in mounted if not mount.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / mount).is_file() for mount in mounted if mount.startswith("."))
    # The image of PostgreSQL 18 refuses to start on anything below this.
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


def test_the_command_works_wherever_the_checkout_is(tmp_path: Path) -> None:
    programs = tmp_path / "it's a blank" / "bin"
    programs.mkdir(parents=True)
    python = programs / "python"
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    python.chmod(0o755)

    SETUP["write_command"](programs)

    output = subprocess.check_output([programs / "infrawatch", "watch", 'a{b="c d"}'], text=True)
    assert output == '-m|infrawatch|watch|a{b="c d"}|'

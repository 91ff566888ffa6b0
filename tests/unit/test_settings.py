"""`.env.example` and settings.py say the same."""

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from infrawatch.settings import AgentSettings, LogSettings, Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
LINE = re.compile(r"^# (INFRAWATCH_\w+)=(.*)$", re.MULTILINE)
KINDS = (Settings, AgentSettings, LogSettings)


@pytest.fixture
def documented() -> dict[str, str]:
    return dict(LINE.findall(EXAMPLE.read_text(encoding="utf-8")))


def test_every_setting_is_documented_and_nothing_else(documented: dict[str, str]) -> None:
    assert set(documented) == set(_fields())


def test_each_setting_is_documented_once(documented: dict[str, str]) -> None:
    assert len(LINE.findall(EXAMPLE.read_text(encoding="utf-8"))) == len(documented)


@pytest.mark.parametrize("kind", KINDS)
def test_the_documented_defaults_are_the_defaults(
    kind: type[Settings | AgentSettings | LogSettings],
    documented: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in _fields():
        monkeypatch.delenv(variable, raising=False)
    defaults = kind(_env_file=None)

    for variable, field in _fields().items():
        if field.default is not None:  # else the line shows an example
            monkeypatch.setenv(variable, documented[variable])

    assert kind(_env_file=None) == defaults


def _fields() -> dict[str, FieldInfo]:
    return {
        f"INFRAWATCH_{name.upper()}": field
        for kind in KINDS
        for name, field in kind.model_fields.items()
    }

"""`.env.example` and settings.py say the same."""

import re
from datetime import timedelta
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


def test_a_duration_of_nothing_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRAWATCH_READ_DEADLINE", "0")
    with pytest.raises(ValueError, match="longer than 0, such as 5s"):
        Settings(_env_file=None)


def test_a_replay_window_that_the_journal_cannot_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The journal is a ring of 40 minutes; a slot that is not empty by then would never be."""
    monkeypatch.setenv("INFRAWATCH_REPLAY_WINDOW", "30m")
    assert Settings(_env_file=None).replay_window == timedelta(minutes=30)
    monkeypatch.setenv("INFRAWATCH_REPLAY_WINDOW", "31m")
    with pytest.raises(ValueError, match="at most 30m: the journal goes back no further"):
        Settings(_env_file=None)


@pytest.mark.parametrize("name", ["retention", "rollup_5m_retention", "rollup_1h_retention"])
def test_a_retention_that_means_another_elsewhere_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"INFRAWATCH_{name.upper()}"
    for text in ("0", "0d", "15", "365"):
        monkeypatch.setenv(variable, text)
        with pytest.raises(ValueError, match="is too short: write 15d for days"):
            Settings(_env_file=None)
    for text, retention in (("forever", None), ("30m", timedelta(minutes=30))):
        monkeypatch.setenv(variable, text)
        assert getattr(Settings(_env_file=None), name) == retention


def _fields() -> dict[str, FieldInfo]:
    return {
        f"INFRAWATCH_{name.upper()}": field
        for kind in KINDS
        for name, field in kind.model_fields.items()
    }

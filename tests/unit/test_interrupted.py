"""Ctrl-C while a command is still being imported."""

import sys
from types import ModuleType

import pytest
from typing_extensions import override

from infrawatch.__main__ import main


class _Interrupted(ModuleType):
    @override
    def __getattribute__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_ctrl_c_during_an_import_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "infrawatch.cli.commands", _Interrupted("commands"))

    with pytest.raises(SystemExit) as left:
        main()

    assert left.value.code == 130

"""The tail is what makes code hard to read, so the longest of each kind is held."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES = {"src": 300, "tests": 400}
FUNCTION_LINES = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("folder", MODULE_LINES)
def test_no_module_is_too_long(folder: str) -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in _modules(folder)}

    assert lengths
    assert {path: n for path, n in lengths.items() if n > MODULE_LINES[folder]} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}": _length(function)
        for path in _modules("src")
        for function in _functions(path)
    }

    assert lengths
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES} == {}


def _modules(folder: str) -> Iterator[Path]:
    return (ROOT / folder).rglob("*.py")


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Function):
            yield node


def _length(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1

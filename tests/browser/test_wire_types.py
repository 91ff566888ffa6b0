"""The dashboard's types are those of the current OpenAPI document."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WIRE = ROOT / "dashboard" / "src" / "wire.ts"


def test_the_types_are_those_of_the_models(tmp_path: Path) -> None:
    if shutil.which("npx") is None:
        pytest.skip("TYPES OF THE DASHBOARD NOT TESTED: there is no npx here")
    made = tmp_path / "wire.ts"
    script = ROOT / ".ci" / "wire_types.py"
    subprocess.run([sys.executable, script, made], check=True, capture_output=True)
    assert _code(made) == _code(WIRE), "run `npm run types` in dashboard/"


def _code(path: Path) -> str:
    return re.sub(r"/\*\*.*?\*/\s*", "", path.read_text(), flags=re.DOTALL)

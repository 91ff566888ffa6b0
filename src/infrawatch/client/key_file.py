"""An API key in a file, where no process listing shows it."""

from pathlib import Path

from infrawatch.errors import Forbidden


def read_key(path: Path | None) -> str | None:
    """Return the key in a file, without surrounding whitespace; None if `path` is None.

    Raises:
        Forbidden: the file cannot be read, or contains no key.
    """
    if path is None:
        return None
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Forbidden(f"cannot read the key in {path}: {error}") from error
    if not key.isprintable() or not key:
        raise Forbidden(f"{path} holds no key: it should be a single line, iw_…")
    return key

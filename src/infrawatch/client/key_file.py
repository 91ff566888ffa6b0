"""An API key in a file, where no list of processes shows it."""

from pathlib import Path

from infrawatch.errors import Forbidden


def read_key(path: Path | None) -> str | None:
    """The key in the file, without the blanks around it; None if there is no file to read.

    Raises:
        Forbidden: the file cannot be read, or holds no key.
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

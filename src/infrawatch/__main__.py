"""`infrawatch`, and `python -m infrawatch`."""

import sys
from collections.abc import Iterator

from infrawatch.cli.commands import app
from infrawatch.errors import InfraWatchError


def main() -> None:
    """Run a command; errors that users can fix are one sentence on stderr and exit code 1."""
    sentences: list[str] = []
    try:
        app(prog_name="infrawatch")
    except* InfraWatchError as errors:
        sentences = [str(error) for error in _leaves(errors)]
    if sentences:
        sys.exit("\n".join(f"infrawatch: {sentence}" for sentence in sentences))


def _leaves(group: BaseExceptionGroup[InfraWatchError]) -> Iterator[InfraWatchError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()

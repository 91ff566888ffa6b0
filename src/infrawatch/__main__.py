"""`infrawatch`, and `python -m infrawatch`."""

import sys
from collections.abc import Iterator

from infrawatch.errors import InfraWatchError

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main() -> None:
    """Run a command; errors that users can fix are one sentence on stderr and exit code 1."""
    sentences: list[str] = []
    try:
        _run_command()
    except* InfraWatchError as errors:
        sentences = [str(error) for error in _leaves(errors)]
    if sentences:
        sys.exit("\n".join(f"infrawatch: {sentence}" for sentence in sentences))


def _run_command() -> None:
    try:
        # Here, where Ctrl-C is no traceback: the import takes a fifth of a second.
        from infrawatch.cli.commands import app  # noqa: PLC0415

        app(prog_name="infrawatch")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _leaves(group: BaseExceptionGroup[InfraWatchError]) -> Iterator[InfraWatchError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()

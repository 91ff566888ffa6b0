"""Options shared by several commands, and the environment variables behind them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from infrawatch.errors import CannotStart, reworded

AnySettings = TypeVar("AnySettings", bound=BaseSettings)

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where the embedded PostgreSQL and the spool live [INFRAWATCH_DATA_DIR; .infrawatch]"
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on [INFRAWATCH_HOST; 127.0.0.1]")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on; 0 is any free one [INFRAWATCH_PORT; 8000]")
]
Url = Annotated[str | None, typer.Option(help="The server [INFRAWATCH_URL; http://127.0.0.1:8000]")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        readable=True,
        help="A file with an API key; agents read it again when it changes [INFRAWATCH_KEY_FILE]",
    ),
]


def read_settings(kind: type[AnySettings], **options: Any) -> AnySettings:
    """Read settings: `options` that are not None, then environment variables, then `.env`.

    Raises:
        CannotStart: one is invalid; the message names it, but does not show its value.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return kind(**given)
    except ValidationError as error:
        wrong = [
            f"{_written('_'.join(map(str, one['loc'])), given)}: {reworded(one['msg'])}"
            for one in error.errors()
        ]
        raise CannotStart("; ".join(wrong)) from None
    except SettingsError as error:
        raise CannotStart(str(error)) from None
    except UnicodeDecodeError as error:
        raise CannotStart(f".env is not UTF-8, from its byte {error.start} on") from None


def _written(name: str, options: Mapping[str, Any]) -> str:
    """Return a setting's name as it was given: as an option or as a variable."""
    return f"--{name.replace('_', '-')}" if name in options else f"INFRAWATCH_{name.upper()}"

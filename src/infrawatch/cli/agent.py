"""`infrawatch agent`: this machine's metrics, sent to a server."""

from pathlib import Path
from typing import Annotated

import typer

from infrawatch.agent.loop import AgentOptions, run
from infrawatch.cli.options import KeyFile, Url, read_settings
from infrawatch.cli.running import run_until_stopped, set_up_logging
from infrawatch.settings import AgentSettings

Interval = Annotated[
    str | None, typer.Option(help="How often to collect: 5s, 1m [INFRAWATCH_INTERVAL; 5s]")
]
Label = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A label for every series; repeat it for more. `instance` is the host's name and "
        "`job` is node unless you say otherwise [INFRAWATCH_LABELS: a=b,c=d]",
    ),
]
SpoolDir = Annotated[
    Path | None,
    typer.Option(help="Where to keep what is not sent yet [INFRAWATCH_SPOOL_DIR]"),
]


def agent(
    url: Url = None,
    key_file: KeyFile = None,
    interval: Interval = None,
    label: Label = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Send this machine's metrics to a server, under node_exporter's names.

    Unsent samples are kept on disk, so that none are lost while the server is unreachable.
    """
    settings = read_settings(
        AgentSettings, url=url, key_file=key_file, interval=interval, spool_dir=spool_dir
    )
    options = AgentOptions(
        url=settings.url,
        key_file=settings.key_file,
        interval=settings.interval,
        labels=settings.labels | dict(map(_parse_label, label or [])),
        spool_dir=settings.spool_dir,
        spool_bytes=settings.spool_bytes,
    )
    set_up_logging()
    run_until_stopped(run(options))


def _parse_label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not name=value", param_hint="--label")
    return name, value

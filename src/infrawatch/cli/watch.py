"""`infrawatch watch`: live samples in a terminal."""

from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from infrawatch.cli.options import KeyFile, Url, read_settings
from infrawatch.cli.running import run_until_stopped, set_up_logging
from infrawatch.client.connection import Client
from infrawatch.client.key_file import read_key
from infrawatch.client.live import LiveUpdate
from infrawatch.client.series import Sample, Series
from infrawatch.errors import CannotStart, RequestRefused
from infrawatch.settings import AgentSettings

Match = Annotated[str, typer.Argument(help="Which series: node_load1, up{job='node'}, …")]
Since = Annotated[
    str | None, typer.Option(help="Begin with all samples since then: -15m, a time; else the last")
]


def watch(match: Match, url: Url = None, key_file: KeyFile = None, since: Since = None) -> None:
    """Show the samples of matching series as they are committed, until Ctrl-C.

    A terminal shows a table of the last samples; otherwise, each sample is printed on a line.
    """
    settings = read_settings(AgentSettings, url=url, key_file=key_file)
    set_up_logging()
    try:
        run_until_stopped(_watch(settings, match, since))
    except RequestRefused as error:
        if error.answered_status != HTTPStatus.UNAUTHORIZED:
            raise
        raise CannotStart(f"{error}. Name the file that holds it with --key-file.") from None


async def _watch(settings: AgentSettings, match: str, since: str | None) -> None:
    console = Console()
    key = read_key(settings.key_file)
    async with (
        Client(settings.url, key=key) as client,
        aclosing(client.live(match, since=since)) as updates,
    ):
        if not console.is_terminal:
            async for update in updates:
                _print_lines(update)
            return
        picture = Picture(match)
        with Live(picture.table(), console=console) as shown:
            async for update in updates:
                picture.apply(update)
                shown.update(picture.table())


class Picture:
    """The last sample of each series."""

    def __init__(self, match: str) -> None:
        self._match = match
        self._last: dict[str, Sample] = {}
        self._gaps = 0

    def apply(self, update: LiveUpdate) -> None:
        self._gaps += update.gap is not None
        for series in update.series:
            newest = max((Sample(*one) for one in series.samples), key=lambda one: one.at)
            name = _to_text(series)
            if name not in self._last or newest.at >= self._last[name].at:
                self._last[name] = newest

    def table(self) -> Table:
        title = f"{self._match}: {len(self._last)} series, {self._gaps} gaps"
        table = Table(title=title, title_justify="left")
        table.add_column("series", overflow="fold")
        table.add_column("value", justify="right")
        table.add_column("time")
        for name, last in sorted(self._last.items()):
            table.add_row(name, _to_value(last), f"{last.at.astimezone():%H:%M:%S.%f}"[:-3])
        return table


def _print_lines(update: LiveUpdate) -> None:
    for series in update.series:
        for at, value in series.samples:
            print(at.isoformat(), _to_text(series), _to_value(Sample(at, value)), flush=True)


def _to_text(series: Series) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(series.labels.items()))
    return f"{series.metric}{{{labels}}}" if labels else series.metric


def _to_value(sample: Sample) -> str:
    return "ended" if sample.value is None else f"{sample.value:g}"

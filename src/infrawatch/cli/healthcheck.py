"""`infrawatch healthcheck`: for containers and service managers."""

from typing import Annotated

import httpx
import typer

from infrawatch.cli.options import read_settings
from infrawatch.client.loopback import local_url
from infrawatch.errors import CannotStart
from infrawatch.settings import Settings

# Less than the timeout of the callers: Docker's default is 30 s, Kubernetes' is often 5 s.
_DEADLINE_S = 4.0

Url = Annotated[
    str | None,
    typer.Option(help="The server's address [from INFRAWATCH_HOST and INFRAWATCH_PORT]"),
]


def healthcheck(url: Url = None) -> None:
    """Exit with 0 if the server can take samples and queries now, with 1 and the reason if not."""
    settings = read_settings(Settings)
    ready = f"{url or local_url(settings.host, settings.port)}/readyz"
    try:
        answer = httpx.get(ready, timeout=_DEADLINE_S, trust_env=False)
    except httpx.HTTPError as error:
        raise CannotStart(f"{ready} does not answer: {error}") from None
    if answer.is_error:
        raise CannotStart(f"{ready} says {answer.status_code}: {answer.text[:500]}")
    print("ready")

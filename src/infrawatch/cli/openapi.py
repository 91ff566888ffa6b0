"""`infrawatch openapi`: the API's description, without a running server."""

import json

from infrawatch.cli.application import create_app
from infrawatch.cli.options import read_settings
from infrawatch.settings import Settings


def openapi() -> None:
    """Print the OpenAPI document that the server serves at /openapi.json."""
    print(json.dumps(create_app(read_settings(Settings)).openapi(), indent=2))

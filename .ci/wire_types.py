"""Writes the dashboard's types of what the server says, from its OpenAPI and AsyncAPI documents.

    cd dashboard && npm run types

The names are those of the Pydantic models; a model that both documents know is described once.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from infrawatch.app import create_app
from infrawatch.live import asyncapi
from infrawatch.settings import Settings

DASHBOARD = Path(__file__).resolve().parent.parent / "dashboard"
ASKED = (
    "SeriesPage",
    "LabelNames",
    "LabelValues",
    "MetadataOut",
    "Latest",
    "QueryAnswer",
    "RangeOut",
    "SessionIn",
    "SessionOut",
    "Ticket",
)


def main(target: str) -> None:
    """Write the types to `target`."""
    queries = create_app(Settings(_env_file=None)).openapi()["components"]["schemas"]
    frames = asyncapi.document()["components"]["schemas"]
    wanted = {name: queries[name] for name in _reached(queries, ASKED)} | frames
    document = {
        "openapi": "3.1.0",
        "info": {"title": "InfraWatch", "version": "1"},
        "paths": {},
        "components": {"schemas": dict(sorted(wanted.items()))},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        subprocess.run(
            ["npx", "--no", "openapi-typescript", file.name, "--output", Path(target).resolve()],
            cwd=DASHBOARD,
            check=True,
        )


def _reached(schemas: dict[str, object], names: tuple[str, ...]) -> set[str]:
    """The schemas of these names, and those they refer to."""
    prefix = "#/components/schemas/"
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            text = json.dumps(schemas[name])
            waiting += [one for one in schemas if f'"{prefix}{one}"' in text]
    return found


if __name__ == "__main__":
    main(sys.argv[1])

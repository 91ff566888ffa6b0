"""GET /asyncapi.json: the live protocol as an AsyncAPI 3 document, and a page to read it."""

import html
import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from infrawatch.live import schemas
from infrawatch.live.viewer import CLOSE_BAD_FRAMES, CLOSE_NOT_ADMITTED, CLOSE_STUCK

router = APIRouter(tags=["live"])

SENT_BY_VIEWERS: tuple[type[BaseModel], ...] = (schemas.Subscribe, schemas.Unsubscribe)
SENT_BY_SERVER: tuple[type[BaseModel], ...] = (
    schemas.Subscribed,
    schemas.SeriesAdded,
    schemas.Snapshot,
    schemas.Update,
    schemas.Gap,
    schemas.Error,
    schemas.Heartbeat,
)

_DESCRIPTION = f"""\
JSON text frames. Send `subscribe`; `subscribed` and a `snapshot` answer it, an `update` follows
every commit that touches the series. Keep the last `cursor`: after a lost connection, send it as
`resume`, to any server, and go on where you were. What could not be sent is never left out in
silence: a `gap` says so, and a new `snapshot` follows.

Programs send an API key as `Authorization: Bearer iw_…` with the upgrade. A page cannot: it trades
its key for a ticket (`POST /v1/live/tickets`: good once, for a minute) and offers the subprotocols
`infrawatch.v1` and `ticket.<ticket>`. Without either the upgrade is answered 401.

Close codes: 1012 the server restarts, connect again and resume; {CLOSE_BAD_FRAMES} too many frames
that could not be followed; {CLOSE_NOT_ADMITTED} your key was revoked or has expired;
{CLOSE_STUCK} you took nothing for 15 seconds.
"""

_SECURITY_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "bearerFormat": "iw_<id>_<secret>"},
    "ticket": {"type": "httpApiKey", "in": "header", "name": "Sec-WebSocket-Protocol"},
}


def document() -> dict[str, Any]:
    """The document (AsyncAPI 3.0.0), made from the models that frames are checked with."""
    models = (*SENT_BY_VIEWERS, *SENT_BY_SERVER)
    _, definitions = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "InfraWatch live", "version": "1", "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {
            "live": {
                "address": "/v1/live",
                "messages": {model.__name__: _reference("messages", model) for model in models},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {
            "listen": _operation("receive", SENT_BY_VIEWERS),
            "push": _operation("send", SENT_BY_SERVER),
        },
        "components": {
            "messages": {
                model.__name__: {
                    "name": model.__name__,
                    "summary": (model.__doc__ or model.__name__).strip(),
                    "payload": _reference("schemas", model),
                }
                for model in models
            },
            "schemas": definitions["$defs"],
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


@router.get("/asyncapi.json", response_class=JSONResponse)
async def asyncapi() -> JSONResponse:
    """The live protocol as an AsyncAPI 3 document."""
    return JSONResponse(document())


@router.get("/docs/live", include_in_schema=False)
async def page() -> HTMLResponse:
    """The same document as an HTML page."""
    return HTMLResponse(_to_html(document()))


def _reference(kind: str, model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{model.__name__}"}


def _operation(action: str, models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/live"},
        "messages": [{"$ref": f"#/channels/live/messages/{model.__name__}"} for model in models],
        "security": [
            {"$ref": f"#/components/securitySchemes/{scheme}"} for scheme in _SECURITY_SCHEMES
        ],
    }


def _to_html(described: dict[str, Any]) -> str:
    sections = "".join(
        f"<h2 id={name}>{html.escape(message['name'])}</h2><p>{html.escape(message['summary'])}</p>"
        f"<pre>{html.escape(json.dumps(described['components']['schemas'][name], indent=2))}</pre>"
        for name, message in described["components"]["messages"].items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>InfraWatch live</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}"
        "pre{background:#f3f4f6;color:#111;padding:1rem;overflow:auto}</style>"
        f"<h1>WS /v1/live</h1><pre>{html.escape(described['info']['description'])}</pre>{sections}"
    )

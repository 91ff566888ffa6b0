"""WS /v1/live, and GET /v1/live/sse for clients without WebSockets."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Header, Query, Request, WebSocket
from fastapi.responses import Response, StreamingResponse
from pydantic_core import from_json
from starlette.requests import HTTPConnection

from infrawatch.access.access import Access
from infrawatch.access.needs import MayRead
from infrawatch.access.parameters import OwnRouter
from infrawatch.access.principal import Principal
from infrawatch.errors import InfraWatchError, Unauthenticated
from infrawatch.live.options import SubscriptionOptions
from infrawatch.live.subscription import LiveUpdates
from infrawatch.live.viewer import HEARTBEAT_S, NOT_ADMITTED, Viewer, error_frame
from infrawatch.model.cursor import MAX_CURSOR_CHARACTERS, Cursor
from infrawatch.model.selector import MAX_SELECTOR_CHARACTERS, parse_selector
from infrawatch.problems import to_response

router = OwnRouter(prefix="/v1", tags=["live"])

SUBPROTOCOL = "infrawatch.v1"


class UpgradeRequired(InfraWatchError):
    code = "upgrade_required"
    status = 426


async def _live(
    connection: HTTPConnection,
) -> LiveUpdates:  # FastAPI runs plain functions in a thread
    live: LiveUpdates = connection.state.live
    return live


LiveDependency = Annotated[LiveUpdates, Depends(_live)]


@router.websocket("/live")
async def follow(websocket: WebSocket, principal: MayRead, live: LiveDependency) -> None:
    """Exchange frames in both directions, as described in /asyncapi.json."""
    offered = websocket.scope.get("subprotocols", ())
    access: Access = websocket.state.access
    async with access.limiter.viewing(principal):
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        await Viewer(websocket, principal, live, access.gate.still_admits).serve()


@router.get("/live", include_in_schema=False)
async def refuse_plain_get(_principal: MayRead) -> Response:
    """Answer a plain GET with 426: usually a proxy dropped the upgrade headers."""
    answer = to_response(
        UpgradeRequired(
            "a WebSocket is spoken here: let a proxy on the way pass on the headers Upgrade and "
            "Connection, or ask for /v1/live/sse"
        )
    )
    answer.headers.update({"Upgrade": "websocket", "Connection": "upgrade"})
    return answer


@router.get(
    "/live/sse",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def follow_by_sse(
    request: Request,
    principal: MayRead,
    live: LiveDependency,
    match: Annotated[str, Query(max_length=MAX_SELECTOR_CHARACTERS, examples=["node_load1"])],
    since: Annotated[str | None, Query(max_length=100)] = None,
    last_event_id: Annotated[str | None, Header(max_length=MAX_CURSOR_CHARACTERS)] = None,
) -> StreamingResponse:
    """The frames of one subscription as server-sent events; event ids are cursors."""
    options = SubscriptionOptions(
        "sse",
        principal.tenant_id,
        parse_selector(match),
        since,
        Cursor.from_text(last_event_id) if last_event_id else None,
        heartbeat=timedelta(seconds=HEARTBEAT_S),
    )
    access: Access = request.state.access
    events = _events(live, options, access, principal)
    first = await anext(events)  # an invalid request still gets a problem response
    return StreamingResponse(
        _chained(first, events),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _events(
    live: LiveUpdates, options: SubscriptionOptions, access: Access, principal: Principal
) -> AsyncGenerator[bytes, None]:
    """Frames as events; the last one is an error if the viewer's key is no longer valid."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(access.limiter.viewing(principal))
        subscription = stack.enter_context(live.subscribed(options))
        frames = await stack.enter_async_context(aclosing(subscription.frames()))
        async for frame in frames:
            if not await access.gate.still_admits(principal):
                error = Unauthenticated(NOT_ADMITTED, reason="withdrawn")
                yield _to_event(error_frame(error, options.id))
                return
            yield _to_event(frame)


def _to_event(frame: str) -> bytes:
    """A frame as an event (HTML standard, 9.2): named by its type, with its cursor as id."""
    read = from_json(frame)
    cursor = f"id: {read['cursor']}\n" if "cursor" in read else ""
    return f"event: {read['type']}\n{cursor}data: {frame}\n\n".encode()


async def _chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield event

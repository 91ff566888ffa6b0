"""A viewer that does not read is disconnected, and no other is affected."""

import gc
import json
import os
import socket
import sys
from time import monotonic
from urllib.parse import urlsplit

import pytest
from scripted_server import eventually
from serving_live import live_server
from viewing import check, now_ms, push, viewing
from websockets.asyncio.client import connect

from infrawatch.live import viewer as viewer_module
from infrawatch.live.mailbox import Mailbox

START = now_ms() - 24 * 3_600_000
PER_BATCH = 40_000
TCP_REPAIR = 19
"""A socket's option (Linux, tcp.h)."""

FILLING = 3
"""So many batches find room in the buffers of the kernel; then the server notices."""


def mailboxes() -> int:
    """How many still take updates; what waited in the others is free."""
    return sum(isinstance(one, Mailbox) and not one.is_closed for one in gc.get_objects())


def waiting_samples() -> int:
    return sum(one._samples for one in gc.get_objects() if isinstance(one, Mailbox))


def deaf_socket(url: str) -> socket.socket:
    """A connection with small buffers, so that the server soon notices a stuck reader."""
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((parts.hostname, parts.port))
    connection.setblocking(False)
    return connection


async def test_a_stuck_viewer_is_disconnected_in_time_without_affecting_others(
    database_url: str,
) -> None:
    async with live_server(database_url) as url, viewing(url) as healthy:
        picture = await healthy.subscribe("m")
        address = url.replace("http", "ws", 1) + "/v1/live"
        stuck = await connect(
            address, sock=deaf_socket(url), max_queue=1, ping_interval=None, proxy=None
        )
        await stuck.send(json.dumps({"type": "subscribe", "id": "a", "match": "m"}))
        await eventually(lambda: mailboxes() == 2)

        started, batch = monotonic(), 0
        while mailboxes() == 2:
            assert monotonic() - started < 20
            samples = ((START + batch * PER_BATCH + n, n) for n in range(PER_BATCH))
            pushed = monotonic()
            await push(url, "m", list(samples))
            batch += 1
            await healthy.until_there_are(picture, batch * PER_BATCH)
            if batch == FILLING:
                started = monotonic()
            assert monotonic() - pushed < 5
        stuck.transport.abort()

        assert picture.gaps == []
        assert waiting_samples() < 2 * PER_BATCH


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="NOT TESTED: only root on Linux can leave without a word",
)
async def test_a_connection_that_disappears_silently_is_noticed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_module, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(viewer_module, "CHECK_S", 0.25)
    async with live_server(database_url) as url, viewing(url) as healthy:
        picture = await healthy.subscribe("m")
        gone = deaf_socket(url)
        viewer = await connect(
            url.replace("http", "ws", 1) + "/v1/live", sock=gone, ping_interval=None, proxy=None
        )
        await viewer.send(json.dumps({"type": "subscribe", "id": "a", "match": "m"}))
        for kind in ("subscribed", "snapshot"):  # nothing more is under way
            assert check(await viewer.recv())["type"] == kind
        assert mailboxes() == 2
        gone.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)  # closed like this, it sends no FIN
        viewer.transport.abort()

        await eventually(lambda: mailboxes() == 1)
        await push(url, "m", [(now_ms(), 1)])
        await healthy.until_there_are(picture, 1)

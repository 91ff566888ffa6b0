"""Whoever takes nothing of an answer is too slow soon; every byte taken earns some more time."""

import asyncio
import socket
from contextlib import suppress
from datetime import timedelta
from typing import cast

from infrawatch.server.send_progress import SendProgress
from infrawatch.settings import Settings

SETTINGS = Settings(_env_file=None, answer_deadline=timedelta(seconds=3), answer_min_bytes_per_s=1)
BUFFER_BYTES = 16 * 1024


class Sending:
    """The end of a real connection, without anything that waits outside the kernel."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> socket.socket:
        return self._line


def test_time_is_earned_by_what_the_other_side_takes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        with (
            socket.create_connection(listener.getsockname()) as here,
            listener.accept()[0] as there,
        ):
            here.setblocking(False)
            there.settimeout(10)
            with suppress(BlockingIOError):
                while here.send(bytes(BUFFER_BYTES)):
                    pass
            progress = SendProgress(cast("asyncio.WriteTransport", Sending(here)), SETTINGS)

            assert [progress.is_too_slow(1) for _ in range(3)] == [False, False, True]
            while progress.is_too_slow(0):
                assert there.recv(BUFFER_BYTES)

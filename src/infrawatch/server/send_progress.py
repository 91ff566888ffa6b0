"""How fast the peer reads a response."""

import asyncio
import struct
import termios
from contextlib import suppress
from fcntl import ioctl

from infrawatch.settings import Settings

_COUNT = struct.Struct("i")


class SendProgress:
    """A response that is paused until the peer has read what was sent before."""

    def __init__(self, transport: asyncio.WriteTransport, settings: Settings) -> None:
        self._transport = transport
        self._settings = settings
        self._at_first_bytes = _find_untaken(transport)
        self._waited_s = 0.0

    def is_too_slow(self, seconds: float) -> bool:
        """Add waiting time; return whether the total exceeds what the bytes read have earned."""
        self._waited_s += seconds
        taken_bytes = self._at_first_bytes - _find_untaken(self._transport)
        earned_s = taken_bytes / self._settings.answer_min_bytes_per_s
        return self._waited_s >= self._settings.answer_deadline.total_seconds() + earned_s


def _find_untaken(transport: asyncio.WriteTransport) -> int:
    """Return the bytes not yet acknowledged by the peer, here and in the kernel (Linux, tcp(7))."""
    untaken = transport.get_write_buffer_size()
    line = transport.get_extra_info("socket")
    with suppress(OSError):  # another system, or the connection is gone
        untaken += _COUNT.unpack(ioctl(line.fileno(), termios.TIOCOUTQ, bytes(_COUNT.size)))[0]
    return untaken

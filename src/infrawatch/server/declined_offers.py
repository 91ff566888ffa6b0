"""Offers to upgrade to another protocol: unsupported ones are declined."""

import sys

from httptools import HttpParserUpgrade, HttpRequestParser
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class DecliningProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but offers to upgrade to an unsupported protocol are ignored.

    Java's HttpClient offers HTTP/2 (`Upgrade: h2c`) with every body that it sends. The parser
    treats the offer as accepted and the body as another protocol, so the request is parsed again
    without the header, which a server may ignore (RFC 9110, 7.8).
    """

    _received = b""

    @override
    def data_received(self, data: bytes) -> None:
        self._received = data
        super().data_received(data)

    @override
    def on_headers_complete(self) -> None:
        if not self._is_to_be_declined():
            super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        if not self._is_to_be_declined():
            super().on_message_complete()

    @override
    def _unsupported_upgrade_warning(self) -> None:
        """Called by uvicorn when the parser stops after the head of a non-WebSocket upgrade."""
        stopped = sys.exception()
        if not self._is_to_be_declined() or not isinstance(stopped, HttpParserUpgrade):
            return
        [offset] = stopped.args
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [method + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.data_received(b"\r\n".join([*lines, b"", b""]) + self._received[offset:])

    def _is_to_be_declined(self) -> bool:
        is_offer = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        return is_offer and not self._should_upgrade()

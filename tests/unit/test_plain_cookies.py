"""Cookies of whoever cost next to nothing, and others beside them are found."""

from time import process_time

import pytest
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from infrawatch.access.requests.plain_cookies import PlainCookies


async def parsed(*cookies: str) -> dict[str, str]:
    """What an app reads of some headers Cookie."""
    read: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        read.update(HTTPConnection(scope).cookies)

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is sent")

    headers = [(b"host", b"a\\b"), *((b"cookie", one.encode("latin-1")) for one in cookies)]
    await PlainCookies(app)({"type": "http", "headers": headers}, receive, send)
    return read


@pytest.mark.parametrize("unit", ["\\", "\\101", '\\"', "\\\\x"])
async def test_quoted_cookies_are_parsed_in_linear_time(unit: str) -> None:
    """Python 3.11.7 took half a minute for 60 KB."""
    began = process_time()
    await parsed(f'a="{unit * (60_000 // len(unit))}"')

    assert process_time() - began < 1


async def test_cookies_beside_quoted_ones_are_found() -> None:
    found = await parsed(r'a="b\054\"c"; infrawatch_session=0.x', "d=e")

    assert found == {"a": 'b054"c', "infrawatch_session": "0.x", "d": "e"}

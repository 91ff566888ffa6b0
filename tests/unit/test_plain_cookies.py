"""Quoted cookies are not unquoted, and others beside them are found."""

import pytest
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from infrawatch.access.requests.plain_cookies import PlainCookies


async def passed_on(*cookies: str) -> HTTPConnection:
    """The request that an app gets."""
    seen: list[HTTPConnection] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        seen.append(HTTPConnection(scope))

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is sent")

    headers = [(b"host", b"a\\b"), *((b"cookie", one.encode("latin-1")) for one in cookies)]
    await PlainCookies(app)({"type": "http", "headers": headers}, receive, send)
    [connection] = seen
    return connection


@pytest.mark.parametrize("unit", ["\\", "\\101", '\\"', "\\\\x"])
async def test_nothing_of_a_cookie_has_to_be_unquoted(unit: str) -> None:
    """Python 3.11.7 took half a minute to unquote 60 KB."""
    cookie = f'a="{unit * (60_000 // len(unit))}"'
    headers = (await passed_on("d=e", cookie)).headers

    assert headers.getlist("cookie") == ["d=e", cookie.replace("\\", "")]
    assert headers["host"] == "a\\b"


async def test_cookies_beside_quoted_ones_are_found() -> None:
    found = (await passed_on(r'a="b\054\"c"; infrawatch_session=0.x', "d=e")).cookies

    assert found == {"a": 'b054"c', "infrawatch_session": "0.x", "d": "e"}

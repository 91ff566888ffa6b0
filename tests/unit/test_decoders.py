"""Whatever a decoder is given, it reads it or raises one of the errors that are declared."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from damaged_bodies import damaged
from fastapi import Request
from formats import ENCODE, FORMATS, Format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message
from thorough import IS_THOROUGH

from infrawatch.errors import InvalidInput, MalformedBody, TooLarge
from infrawatch.ingest import bodies
from infrawatch.ingest.scheduling.admission import HOLD

EXAMPLES = 3_000 if IS_THOROUGH else 60

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MOST_BYTES = 100_000


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_a_good_body_is_read(known: Format) -> None:
    known.read(known.make("web-1"))


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_a_damaged_body_is_read_or_refused(known: Format) -> None:
    good = known.make("web-1")

    @FUZZ
    @given(damaged(good) | st.binary(max_size=200))
    def every_one_of_them(body: bytes) -> None:
        assert_is_read_or_refused(known.read, body)

    every_one_of_them()


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_a_body_that_breaks_off_anywhere_is_read_or_refused(known: Format) -> None:
    good = known.make("web-1")
    for length in range(len(good)):
        assert_is_read_or_refused(known.read, good[:length])


@pytest.mark.parametrize("encoding", [name for name in ENCODE if name != "identity"])
def test_damaged_compression_is_inflated_or_refused(encoding: str) -> None:
    good = ENCODE[encoding](b"up,host=web-1 value=1.5\n" * 50)

    @FUZZ
    @given(damaged(good) | st.binary(max_size=200))
    def every_one_of_them(body: bytes) -> None:
        with suppress(MalformedBody, TooLarge):
            assert len(inflated(encoding, body)) <= MOST_BYTES

    every_one_of_them()


def inflated(encoding: str, body: bytes) -> bytes:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-encoding", encoding.encode())]
    request = Request({"type": "http", "headers": headers, HOLD: lambda _more: None}, receive)
    read = bodies.read_snappy_body if encoding == "snappy" else bodies.read_body
    return bytes(asyncio.run(read(request, max_bytes=MOST_BYTES)))


def assert_is_read_or_refused(read: Callable[[bytes], None], body: bytes) -> None:
    with suppress(InvalidInput, TooLarge):
        read(body)

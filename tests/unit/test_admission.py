"""What is under way is bounded, by memory and by how promptly it is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from infrawatch.errors import Overloaded
from infrawatch.ingest.scheduling import admission
from infrawatch.ingest.scheduling.admission import HOLD, PROMPT_S, AdmissionControl, InFlight
from infrawatch.telemetry import Telemetry

MIB = 1024 * 1024
MOST = 64 * MIB
ONE, OTHER = "one key", "another"
POST = {
    "type": "http",
    "method": "POST",
    "path": "/v1/samples",
    "headers": [(b"x-api-key", ONE.encode())],
}


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(MOST, Telemetry())


def is_refused(in_flight: InFlight, sender: str = ONE) -> bool:
    try:
        in_flight.begin(sender)
    except Overloaded:
        return True
    return False


def fill(in_flight: InFlight) -> None:
    """Let there be as many bytes under way as there may be, in requests of half a mebibyte."""
    for _ in range(2 * in_flight.limit_bytes // MIB):
        in_flight.receive(ONE, MIB // 2, 0)


def test_requests_are_refused_while_too_many_bytes_are_in_flight(in_flight: InFlight) -> None:
    assert not is_refused(in_flight)

    fill(in_flight)

    assert is_refused(in_flight)
    in_flight.leave(ONE, MIB // 2)
    assert not is_refused(in_flight)


def test_one_large_body_gets_no_other_refused(in_flight: InFlight) -> None:
    own = 0
    in_flight.limit_bytes = MIB  # the least there is
    for _ in range(MOST // MIB):
        in_flight.receive(ONE, MIB, own)
        own += MIB

    assert not is_refused(in_flight)
    in_flight.leave(ONE, own)
    fill(in_flight)
    assert is_refused(in_flight), "a sender that leaves frees only its own bytes"


def test_one_sender_does_not_get_others_refused(in_flight: InFlight) -> None:
    fill(in_flight)

    assert is_refused(in_flight, ONE)
    assert not is_refused(in_flight, OTHER)
    in_flight.receive(OTHER, in_flight.limit_bytes // 2, 0)
    assert is_refused(in_flight, OTHER), "it uses its half now"
    in_flight.leave(OTHER, in_flight.limit_bytes // 2)
    assert not is_refused(in_flight, OTHER)


def test_one_sender_leaves_others_their_share_of_memory(in_flight: InFlight) -> None:
    in_flight.receive(ONE, MOST, 0)
    for receive in (in_flight.receive, in_flight.hold):
        receive(OTHER, MOST // 4, 0)
    for receive in (in_flight.receive, in_flight.hold):
        with pytest.raises(Overloaded):
            receive(OTHER, 1, 0)


def test_one_body_may_exceed_the_limit_but_not_many(in_flight: InFlight) -> None:
    in_flight.receive(ONE, MOST, 0)
    in_flight.receive(ONE, MIB, MOST)

    with pytest.raises(Overloaded):
        in_flight.receive(ONE, 1, 0)

    assert in_flight.bytes == MOST + MIB, "rejected ones are not counted"


def test_late_answers_lower_the_limit(in_flight: InFlight, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(admission, "monotonic", lambda: clock)
    before = in_flight.limit_bytes
    limits = []
    for _ in range(20):
        clock += PROMPT_S * 1.1
        in_flight.answer(MIB, 4 * PROMPT_S)
        in_flight.answer(MIB, 4 * PROMPT_S)  # of the same second, so it tells nothing new
        limits.append(in_flight.limit_bytes)

    assert limits[0] == before // 2
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == MIB, "a minimum remains, to notice the recovery"


def test_prompt_answers_raise_the_limit_when_needed(
    in_flight: InFlight,
) -> None:
    before = in_flight.limit_bytes
    in_flight.answer(MIB, 0.1)
    assert in_flight.limit_bytes == before, "the limit was not reached"

    in_flight.receive(ONE, MOST, 0)
    for _ in range(1_000):
        in_flight.answer(MIB, 0.1)

    assert in_flight.limit_bytes == MOST


@given(st.lists(st.tuples(st.integers(0, MOST), st.floats(0, 100)), max_size=50))
def test_the_limit_stays_within_its_bounds(answers: list[tuple[int, float]]) -> None:
    in_flight = InFlight(MOST, Telemetry())
    in_flight.receive(ONE, MOST, 0)
    for size, took_s in answers:
        in_flight.answer(size, took_s)
        assert MIB <= in_flight.limit_bytes <= MOST


async def ask(in_flight: InFlight, app: object, pieces: list[bytes]) -> list[Message]:
    """Send a request of these pieces; returns the messages of the response."""
    bodies = iter(pieces)
    answered: list[Message] = []

    async def receive() -> Message:
        body = next(bodies)
        return {"type": "http.request", "body": body, "more_body": body is not pieces[-1]}

    async def send(message: Message) -> None:
        answered.append(message)

    await AdmissionControl(app, in_flight)(dict(POST), receive, send)  # type: ignore[arg-type]  # of any shape
    return answered


async def test_bytes_are_in_flight_until_the_request_is_answered(in_flight: InFlight) -> None:
    seen = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            await receive()
            seen.append(in_flight.bytes)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    [answer] = await ask(in_flight, app, [b"abc", b"de"])

    assert answer["status"] == 200
    assert seen == [3, 5]
    assert in_flight.bytes == 0


async def test_a_request_that_fails_is_forgotten_too(in_flight: InFlight) -> None:
    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await ask(in_flight, app, [b"abc"])

    assert in_flight.bytes == 0


async def test_a_refused_body_is_not_read(in_flight: InFlight) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pytest.fail("it was let through")

    fill(in_flight)

    start, _ = await ask(in_flight, app, [])

    assert start["status"] == 503
    assert int(dict(start["headers"])[b"retry-after"]) > 0


async def test_memory_held_for_a_body_counts_for_other_requests(in_flight: InFlight) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope[HOLD](2 * MOST)  # alone, it may
        with pytest.raises(Overloaded):
            in_flight.hold(ONE, 1, 0)
        with pytest.raises(Overloaded):
            in_flight.receive(ONE, 1, 0)
        scope[HOLD](-MOST - 1)
        in_flight.hold(ONE, 1, 0)
        in_flight.hold(ONE, -1, 0)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    [answer] = await ask(in_flight, app, [b""])

    assert answer["status"] == 200
    assert (in_flight.bytes, in_flight.held_bytes) == (0, 0)

"""What is under way is bounded, by memory and by how promptly it is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from infrawatch.errors import Overloaded
from infrawatch.ingest.scheduling import admission
from infrawatch.ingest.scheduling.admission import HOLD, PROMPT_S, Admit, UnderWay
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
def under_way() -> UnderWay:
    return UnderWay(MOST, Telemetry())


def is_refused(under_way: UnderWay, sender: str = ONE) -> bool:
    try:
        under_way.begin(sender)
    except Overloaded:
        return True
    return False


def fill(under_way: UnderWay) -> None:
    """Let there be as many bytes under way as there may be, in requests of half a mebibyte."""
    for _ in range(2 * under_way.limit_bytes // MIB):
        under_way.receive(ONE, MIB // 2, 0)


def test_requests_are_refused_while_too_many_bytes_are_under_way(under_way: UnderWay) -> None:
    assert not is_refused(under_way)

    fill(under_way)

    assert is_refused(under_way)
    under_way.leave(ONE, MIB // 2)
    assert not is_refused(under_way)


def test_one_large_body_turns_nobody_else_away(under_way: UnderWay) -> None:
    own = 0
    under_way.limit_bytes = MIB  # the least there is
    for _ in range(MOST // MIB):
        under_way.receive(ONE, MIB, own)
        own += MIB

    assert not is_refused(under_way)
    under_way.leave(ONE, own)
    fill(under_way)
    assert is_refused(under_way), "what it counted for is forgotten with it, and not more"


def test_what_one_sends_turns_no_other_away(under_way: UnderWay) -> None:
    fill(under_way)

    assert is_refused(under_way, ONE)
    assert not is_refused(under_way, OTHER)
    under_way.receive(OTHER, under_way.limit_bytes // 2, 0)
    assert is_refused(under_way, OTHER), "it has its half now"
    under_way.leave(OTHER, under_way.limit_bytes // 2)
    assert not is_refused(under_way, OTHER)


def test_what_one_sends_leaves_others_their_share_of_memory(under_way: UnderWay) -> None:
    under_way.receive(ONE, MOST, 0)
    for receive in (under_way.receive, under_way.hold):
        receive(OTHER, MOST // 4, 0)
    for receive in (under_way.receive, under_way.hold):
        with pytest.raises(Overloaded):
            receive(OTHER, 1, 0)


def test_one_body_may_be_larger_than_the_bound_but_not_many(under_way: UnderWay) -> None:
    under_way.receive(ONE, MOST, 0)
    under_way.receive(ONE, MIB, MOST)

    with pytest.raises(Overloaded):
        under_way.receive(ONE, 1, 0)

    assert under_way.bytes == MOST + MIB, "what was refused is not counted"


def test_while_answers_are_late_fewer_may_be_under_way(
    under_way: UnderWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr(admission, "monotonic", lambda: clock)
    before = under_way.limit_bytes
    limits = []
    for _ in range(20):
        clock += PROMPT_S * 1.1
        under_way.answer(MIB, 4 * PROMPT_S)
        under_way.answer(MIB, 4 * PROMPT_S)  # of the same second, so it tells nothing new
        limits.append(under_way.limit_bytes)

    assert limits[0] == before // 2
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == MIB, "something has to tell when it is better"


def test_when_it_is_needed_and_answers_are_prompt_more_may_be_under_way(
    under_way: UnderWay,
) -> None:
    before = under_way.limit_bytes
    under_way.answer(MIB, 0.1)
    assert under_way.limit_bytes == before, "nobody knows how many would be answered promptly"

    under_way.receive(ONE, MOST, 0)
    for _ in range(1_000):
        under_way.answer(MIB, 0.1)

    assert under_way.limit_bytes == MOST


@given(st.lists(st.tuples(st.integers(0, MOST), st.floats(0, 100)), max_size=50))
def test_the_limit_stays_within_its_bounds(answers: list[tuple[int, float]]) -> None:
    under_way = UnderWay(MOST, Telemetry())
    under_way.receive(ONE, MOST, 0)
    for size, took_s in answers:
        under_way.answer(size, took_s)
        assert MIB <= under_way.limit_bytes <= MOST


async def ask(under_way: UnderWay, app: object, pieces: list[bytes]) -> list[Message]:
    """Send a request of so many pieces; gives what was answered."""
    bodies = iter(pieces)
    answered: list[Message] = []

    async def receive() -> Message:
        body = next(bodies)
        return {"type": "http.request", "body": body, "more_body": body is not pieces[-1]}

    async def send(message: Message) -> None:
        answered.append(message)

    await Admit(app, under_way)(dict(POST), receive, send)  # type: ignore[arg-type]  # of any shape
    return answered


async def test_bytes_are_under_way_until_the_request_is_answered(under_way: UnderWay) -> None:
    seen = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            await receive()
            seen.append(under_way.bytes)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    [answer] = await ask(under_way, app, [b"abc", b"de"])

    assert answer["status"] == 200
    assert seen == [3, 5]
    assert under_way.bytes == 0


async def test_a_request_that_fails_is_forgotten_too(under_way: UnderWay) -> None:
    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await ask(under_way, app, [b"abc"])

    assert under_way.bytes == 0


async def test_what_is_refused_is_not_read(under_way: UnderWay) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pytest.fail("it was let through")

    fill(under_way)

    start, _ = await ask(under_way, app, [])

    assert start["status"] == 503
    assert int(dict(start["headers"])[b"retry-after"]) > 0


async def test_what_is_held_beside_a_body_counts_for_the_others(under_way: UnderWay) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope[HOLD](2 * MOST)  # alone, it may
        with pytest.raises(Overloaded):
            under_way.hold(ONE, 1, 0)
        with pytest.raises(Overloaded):
            under_way.receive(ONE, 1, 0)
        scope[HOLD](-MOST - 1)
        under_way.hold(ONE, 1, 0)
        under_way.hold(ONE, -1, 0)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    [answer] = await ask(under_way, app, [b""])

    assert answer["status"] == 200
    assert (under_way.bytes, under_way.held_bytes) == (0, 0)

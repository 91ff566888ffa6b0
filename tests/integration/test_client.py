"""The client against a real server."""

from datetime import UTC, datetime, timedelta

import pytest

from infrawatch.client.connection import Client
from infrawatch.client.series import Sample, Series
from infrawatch.errors import RequestRefused

NOW = datetime.now(UTC)
TIMES = [NOW - timedelta(seconds=age) for age in (40, 30, 20, 10)]


async def test_pushed_samples_are_read_back_to_the_microsecond(server: str) -> None:
    samples = [Sample(time, number + 0.1) for number, time in enumerate(TIMES)]
    async with Client(server) as client:
        receipt = await client.push(
            [
                Series("room_celsius", {"room": "a"}, samples, type="gauge", unit="celsius"),
                Series("room_celsius", {"room": "b"}, [(NOW, 20)]),
            ]
        )
        found = await client.query('room_celsius{room="a"}', wait_for=receipt.cursor)

    assert receipt.accepted == 5
    assert receipt.rejected == 0
    assert found == [Series("room_celsius", {"room": "a"}, samples)]


async def test_a_step_asks_for_one_value_each(server: str) -> None:
    samples = [(NOW - timedelta(minutes=5, seconds=number), number) for number in range(3)]
    async with Client(server) as client:
        await client.push([Series("m", {}, samples)])
        [series] = await client.query("m", start=NOW - timedelta(hours=1), step="1h", fn="sum")

    assert sum(value or 0 for _, value in series.samples) == 3


async def test_one_bad_sample_refuses_the_batch_unless_it_may_be_partial(server: str) -> None:
    series = [
        Series("good", {}, [(NOW, 1)]),
        Series("bad", {}, [(NOW - timedelta(days=900), 1), (NOW, 2)]),
    ]
    async with Client(server) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.push(series)
        assert refused.value.answered_status == 422
        assert await client.query("good") == []

        receipt = await client.push(series, partial=True)
        assert (receipt.accepted, receipt.rejected) == (2, 1)
        assert [(one.pointer, one.code) for one in receipt.errors] == [
            ("/series/1/samples/0/0", "too_old")
        ]
        assert len(await client.query("good", wait_for=receipt.cursor)) == 1


async def test_an_inconsistent_query_is_refused(server: str) -> None:
    async with Client(server) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.query("rate(m[5m])")
    assert refused.value.answered_code == "invalid_selector"

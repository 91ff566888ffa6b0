"""Batches of new series: the intake lets decoders remember them, once their series exist."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from infrawatch.access.limits.limiter import Limiter
from infrawatch.access.limits.rates import Rates
from infrawatch.access.limits.shared import Shared
from infrawatch.access.principal import DEFAULT_TENANT_ID, Principal
from infrawatch.ingest import intake as intake_module
from infrawatch.ingest.bounds import TimeBounds
from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.intake import Intake, Rules, WriteOptions
from infrawatch.ingest.native.decode import decode_json
from infrawatch.ingest.series.cache import SeriesCache
from infrawatch.ingest.writer import GroupWriter
from infrawatch.model.timerange import now_us
from infrawatch.store.database import Database
from infrawatch.telemetry import Telemetry

SENDER = Principal(DEFAULT_TENANT_ID, "a sender", frozenset({"write"}))
FORMAT = "some format"
DEADLINE = timedelta(minutes=1)


@pytest.fixture
async def intake(database: Database) -> AsyncIterator[Intake]:
    telemetry = Telemetry()
    writer = GroupWriter(
        database,
        telemetry,
        backlog_samples=1_000,
        group_samples=1_000,
        deadline=DEADLINE,
        on_committed=lambda _entry: None,
    )
    bounds = TimeBounds(None, timedelta(days=1), timedelta(minutes=1), now_us)
    limiter = Limiter(database, Rates(None), Shared(None, uuid4()), DEADLINE)
    rules = Rules(bounds, limiter, DEADLINE)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        yield Intake(database, writer, SeriesCache(1 << 20), telemetry, rules=rules)
        writer.close()


def decode(intake: Intake, hosts: range) -> Decoded:
    time_ms = now_us() // 1_000
    series = (
        b'{"metric":"up","labels":{"host":"%d"},"samples":[[%d,1]]}' % (host, time_ms)
        for host in hosts
    )
    body = b'{"series":[' + b",".join(series) + b"]}"
    find, layouts = intake.finder(SENDER, FORMAT), intake.layouts(SENDER, FORMAT)
    return decode_json(body, "ms", find, layouts)


@pytest.mark.parametrize("off_loop_samples", [0, 1_000])
async def test_the_second_batch_of_a_new_sender_is_recognised(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, off_loop_samples: int
) -> None:
    monkeypatch.setattr(intake_module, "_OFF_LOOP_SAMPLES", off_loop_samples)
    await intake.take(decode(intake, range(20)), SENDER, FORMAT, WriteOptions())

    batch = decode(intake, range(20))

    assert batch.ids is not None
    assert (await intake.take(batch, SENDER, FORMAT, WriteOptions())).accepted == 20


async def test_a_batch_with_few_new_series_is_recognised_the_third_time(
    intake: Intake,
) -> None:
    await intake.take(decode(intake, range(20)), SENDER, FORMAT, WriteOptions())
    for _ in range(2):
        batch = decode(intake, range(25))
        assert batch.ids is None
        await intake.take(batch, SENDER, FORMAT, WriteOptions())

    assert decode(intake, range(25)).ids is not None


async def test_a_batch_that_is_only_validated_adds_nothing_to_the_cache(intake: Intake) -> None:
    await intake.take(decode(intake, range(20)), SENDER, FORMAT, WriteOptions(dry_run=True))

    assert decode(intake, range(20)).ids is None

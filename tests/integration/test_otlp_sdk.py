"""OpenTelemetry's own SDK for Python, sending to us while PostgreSQL fails."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from database_proxy import AtCommit, DatabaseProxy, Road
from httpx import AsyncClient
from integration.conftest import serving
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from pushing import find_stored
from typing_extensions import override

from infrawatch.store.database import Database

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i-1", "os.type": "linux"})
BOUNDS = [0.1, 1.0]


class RecordingExporter(OTLPMetricExporter):
    """Keeps what it was given to send."""

    def __init__(self, endpoint: str, compression: Compression) -> None:
        super().__init__(endpoint=endpoint, compression=compression)
        self.given: list[MetricsData] = []

    @override
    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        self.given.append(metrics_data)
        return super().export(metrics_data, timeout_millis, **kwargs)

    def points(self, name: str) -> Iterator[Any]:
        """The data points of a metric, in the order in which they were to be sent."""
        for data in self.given:
            for resource in data.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        if metric.name == name:
                            yield from metric.data.data_points


@dataclass(slots=True)
class Shop:
    """A process with three instruments."""

    provider: MeterProvider
    meter: Meter
    exporter: RecordingExporter

    def sell(self, orders: int) -> None:
        self.meter.create_counter("orders").add(orders, {"http.method": "POST"})
        self.meter.create_gauge("room.temperature", unit="Cel").set(20.5 + orders)
        lag = self.meter.create_histogram("lag", "s", explicit_bucket_boundaries_advisory=BOUNDS)
        lag.record(0.05 * orders)

    async def flush(self) -> None:
        assert await asyncio.to_thread(self.provider.force_flush)


@asynccontextmanager
async def shop(url: str, compression: Compression) -> AsyncIterator[Shop]:
    exporter = RecordingExporter(f"{url}/v1/metrics", compression)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
    provider = MeterProvider(metric_readers=[reader], resource=RESOURCE)
    yield Shop(provider, provider.get_meter("shop", "1.0"), exporter)
    await asyncio.to_thread(provider.shutdown)


async def is_told_to_come_back(client: AsyncClient) -> bool:
    """Whether a sender of metrics was answered 503 by now."""
    lines = (await client.get("/metrics")).text.splitlines()
    return any('route="/v1/metrics"' in line and 'status="503"' in line for line in lines)


async def close_road(proxy: DatabaseProxy, client: AsyncClient) -> None:
    """Nothing can be stored until a sender has received a refusal."""
    proxy.close()
    while not await is_told_to_come_back(client):
        pass
    proxy.road = Road.OPEN


async def swallow_commit(proxy: DatabaseProxy, client: AsyncClient) -> None:
    """All is stored, but the server does not know it, so the sender must retry."""
    proxy.at_commit = AtCommit.SWALLOW_ANSWER  # before the sender can have committed
    while not await is_told_to_come_back(client):
        proxy.at_commit = AtCommit.SWALLOW_ANSWER  # others commit too
    proxy.at_commit = None


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
@pytest.mark.parametrize("fail", [close_road, swallow_commit])
async def test_a_server_that_answers_503_once_loses_and_doubles_nothing(
    proxy: DatabaseProxy, database: Database, fail: Any, compression: Compression
) -> None:
    async with (
        serving(proxy.url, write_deadline=timedelta(seconds=1)) as url,
        AsyncClient(base_url=url, timeout=30) as client,
        shop(url, compression) as sender,
    ):
        sender.sell(1)
        await sender.flush()
        sender.sell(3)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(proxy, client))
            tasks.create_task(sender.flush())
        sender.sell(5)
        await sender.flush()

        who = {"job": "shop", "instance": "i-1"}
        labels = who | {"otel_scope_name": "shop", "otel_scope_version": "1.0"}
        orders = list(sender.exporter.points("orders"))
        assert [point.value for point in orders] == [1, 4, 9]
        assert await find_stored(database, "orders_total") == [
            ({**labels, "http_method": "POST"}, point.time_unix_nano // 1000, point.value)
            for point in orders
        ]
        assert await find_stored(database, "room_temperature_celsius") == [
            (labels, point.time_unix_nano // 1000, point.value)
            for point in sender.exporter.points("room.temperature")
        ]
        lags = list(sender.exporter.points("lag"))
        for name, field in (("lag_seconds_count", "count"), ("lag_seconds_sum", "sum")):
            expected = [(labels, one.time_unix_nano // 1000, getattr(one, field)) for one in lags]
            assert await find_stored(database, name) == expected
        stored = await find_stored(database, "lag_seconds_bucket")
        assert sorted((at, row["le"], value) for row, at, value in stored) == sorted(
            (point.time_unix_nano // 1000, le, sum(point.bucket_counts[: n + 1]))
            for point in lags
            for n, le in enumerate(["0.1", "1", "+Inf"])
        )
        infos = [(row, value) for row, _, value in await find_stored(database, "target_info")]
        assert infos == [(who | {"os_type": "linux"}, 1.0)] * 3

"""Debian's Prometheus scrapes our own /metrics, and writes what it scraped back to us; its linter
has nothing to say about them.

`make peers` installs it.
"""

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
WITHIN_S = 60

CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: infrawatch
    static_configs: [{{targets: ["{host}"]}}]
remote_write:
  - url: {url}/api/v1/write
    queue_config: {{batch_send_deadline: 1s}}
    metadata_config: {{send_interval: 1s}}
"""


@pytest.mark.skipif(PROMETHEUS is None, reason="no `prometheus` here: `make peers` installs it")
async def test_metrics_scraped_from_us_come_back_by_remote_write(
    server: str, client: AsyncClient, tmp_path: Path
) -> None:
    configuration = tmp_path / "prometheus.yml"
    host = server.removeprefix("http://")
    configuration.write_text(CONFIGURATION.format(host=host, url=server))
    assert PROMETHEUS is not None
    prometheus = await asyncio.create_subprocess_exec(
        PROMETHEUS,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            up = await _latest(client, 'up{job="infrawatch"}')
            await _metadata(client, "infrawatch_commit_duration_seconds", "histogram")
            accepted = await _latest(
                client, 'infrawatch_samples_accepted_total{format="remote_write_1"}'
            )
    finally:
        prometheus.terminate()
        await prometheus.wait()

    assert up["value"] == 1.0
    assert up["labels"] == {"instance": host, "job": "infrawatch"}
    assert accepted["value"] > 0  # what it had sent before is in what it scraped later


@pytest.mark.skipif(PROMTOOL is None, reason="no `promtool` here: `make peers` installs it")
async def test_the_linter_of_prometheus_finds_nothing_wrong_with_our_metrics(
    client: AsyncClient,
) -> None:
    for path in ("/v1/nothing", "/v1/labels", "/livez"):
        await client.get(path)
    metrics = (await client.get("/metrics")).content

    assert PROMTOOL is not None
    linter = await asyncio.create_subprocess_exec(
        *(PROMTOOL, "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert await linter.communicate(metrics) == (b"", b"")
    assert linter.returncode == 0


async def test_no_metric_has_more_series_than_there_are_routes(client: AsyncClient) -> None:
    for number in range(30):
        await client.get(f"/v1/nothing/{number}", headers={"X-Request-Id": str(number)})
    lines = (await client.get("/metrics")).text.splitlines()
    names = Counter(
        line.partition("{")[0] for line in lines if "{" in line and "_bucket{" not in line
    )

    assert names
    assert max(names.values()) < 10


async def _latest(client: AsyncClient, match: str) -> dict[str, Any]:
    """The first series that answers, as soon as there is one with a value above 0."""
    while True:
        found = (await client.get("/v1/latest", params={"match": match})).json()["series"]
        if found and found[0]["value"] > 0:
            first: dict[str, Any] = found[0]
            return first
        await asyncio.sleep(0.2)


async def _metadata(client: AsyncClient, metric: str, wanted: str) -> None:
    """Return when a metric has this type."""
    while True:
        answer = await client.get("/v1/metadata", params={"metric": metric})
        if answer.json()["metadata"].get(metric, {}).get("type") == wanted:
            return
        await asyncio.sleep(0.2)

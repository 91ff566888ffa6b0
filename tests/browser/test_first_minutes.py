"""The first minutes after installation: one host, little history, and findings."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import pytest
import pytest_asyncio
from browsing import page_of
from hosts import host, send, series
from httpx import AsyncClient
from playwright.async_api import Browser, Locator, expect
from pushing import now_ms
from serving_live import live_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

_COLUMNS_WITH_THE_LINE = """
(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const isTeal = ([r, g, b, opaque]) => r < 40 && g > 110 && b > 100 && opaque > 200;
  const hit = (at) => isTeal(data.slice(at, at + 4));
  const columns = [...Array(width).keys()];
  const rows = [...Array(height).keys()];
  return columns.filter((x) => rows.some((y) => hit((y * width + x) * 4))).length / width;
}
"""


class Fresh(NamedTuple):
    url: str
    client: AsyncClient


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(database_url: str) -> AsyncIterator[Fresh]:
    async with (
        live_server(database_url) as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield Fresh(url, client)


async def _part_with_a_line(chart: Locator) -> float:
    part: float = await chart.locator("canvas").evaluate(_COLUMNS_WITH_THE_LINE)
    return part


def _lately(*, seconds: int, every_s: int = 5) -> Sequence[int]:
    return range(now_ms() - seconds * 1_000, now_ms() + 1, every_s * 1_000)


async def test_charts_of_a_new_host_begin_with_its_first_sample(
    browser: Browser, fresh: Fresh
) -> None:
    await send(fresh.client, *host("new", times=_lately(seconds=30)))
    async with page_of(browser, fresh.url) as page:
        await page.goto("/")
        await expect(page.get_by_role("button", name="2m", exact=True)).to_be_visible()
        await page.get_by_role("button", name="1h, the last 1 hour").click()
        await expect(page).to_have_url(re.compile(r"#/\?time=1h$"))
        await page.reload()
        chosen = page.get_by_role("button", name="1h, the last 1 hour")
        await expect(chosen).to_have_attribute("aria-pressed", "true")
        await page.goto("/#/host/instance/new")
        await expect(page.get_by_role("button", name="2m", exact=True)).to_be_visible()


async def test_a_host_is_found_by_its_name_alone_and_a_wrong_one_leads_back(
    browser: Browser, fresh: Fresh
) -> None:
    await send(fresh.client, *host("short", times=_lately(seconds=30)))
    async with page_of(browser, fresh.url) as page:
        await page.goto("/#/host/short")
        await expect(page.get_by_role("heading", name="short", exact=True)).to_be_visible()
        await expect(page.get_by_text("2 cores")).to_be_visible()
        await page.goto("/#/host/shrt")
        await expect(page.get_by_text("Nothing here has instance=shrt")).to_be_visible()
        await expect(page.get_by_text("seen")).to_have_count(0)
        await page.goto("/#/host")
        await expect(page.get_by_text("There is no such view.")).to_be_visible()


async def test_findings_are_shown_above_the_charts(browser: Browser, fresh: Fresh) -> None:
    times = _lately(seconds=120)
    await send(fresh.client, *host("full", disk=0.97, memory=0.9, busy=0.5, times=times))
    async with page_of(browser, fresh.url) as page:
        await page.goto("/")
        found = page.get_by_role("list", name="Worth a look").get_by_role("link")
        await expect(found).to_have_text(["/ is 97 % full", "Memory 90 % used"])
        await found.first.click()
        await expect(page).to_have_url(re.compile("explore.match=node_filesystem_avail_bytes"))


async def test_disk_usage_matches_df(browser: Browser, fresh: Fresh) -> None:
    of_disk = {"instance": "reserved", "mountpoint": "/data", "fstype": "ext4"}
    sizes = {"size": 100, "free": 40, "avail": 20}
    bytes_ = [
        series(f"node_filesystem_{name}_bytes", [[now_ms(), size]], **of_disk)
        for name, size in sizes.items()
    ]
    await send(fresh.client, *bytes_)
    async with page_of(browser, fresh.url) as page:
        await page.goto("/")
        meter = page.locator(".card").get_by_role("meter", name="Disk")
        await expect(meter).to_have_attribute("aria-valuetext", "75 %")
        await expect(page.locator(".meter[title='/data']")).to_be_visible()


async def test_senders_slower_than_a_step_have_lines_and_a_lone_sample_has_a_dot(
    browser: Browser, fresh: Fresh
) -> None:
    place = {"host": "slow"}
    minutely = [[time, 50.0] for time in _lately(seconds=780, every_s=60)]
    lonely = [[now_ms() - 300_000, 5.0]]
    await send(
        fresh.client,
        series("minutely", minutely, **place),
        series("lonely", lonely, **place),
    )
    async with page_of(browser, fresh.url, viewport={"width": 1280, "height": 900}) as page:
        await page.goto("/#/host/host/slow")
        slow = page.get_by_role("figure", name=re.compile("^minutely"))
        await expect(slow.locator("canvas")).to_be_visible()
        assert await _part_with_a_line(slow) > 0.5
        lone = page.get_by_role("figure", name=re.compile("^lonely"))
        await expect(lone.locator("canvas")).to_be_visible()
        assert 0 < await _part_with_a_line(lone) < 0.1


async def test_memory_adds_up_if_only_the_total_and_the_rest_are_sent(
    browser: Browser, fresh: Fresh
) -> None:
    sent = host("lean", times=_lately(seconds=280))
    await send(fresh.client, *(one for one in sent if one["metric"] != "node_memory_MemFree_bytes"))
    async with page_of(browser, fresh.url) as page:
        await page.goto("/#/host/instance/lean")
        memory = page.get_by_role("figure", name=re.compile("^Memory"))
        await expect(memory).to_contain_text(re.compile("used.*available"))
        await expect(memory).not_to_contain_text("MemTotal")


async def test_a_calm_host_has_no_findings_and_all_charts_share_a_cursor(
    browser: Browser, fresh: Fresh
) -> None:
    await send(fresh.client, *host("web-1", times=_lately(seconds=280)))
    async with page_of(browser, fresh.url) as page:
        await page.goto("/#/host/instance/web-1")
        await expect(page.get_by_text("Nothing stands out now.")).to_be_visible()
        load = page.get_by_role("figure", name=re.compile("^Load"))
        await load.locator(".u-over").hover()
        said = load.locator("time")
        await expect(said).to_have_text(re.compile(r"^\d+:\d\d:\d\d$"))
        memory = page.get_by_role("figure", name=re.compile("^Memory"))
        await expect(memory.locator("time")).to_have_text(await said.inner_text())


async def test_a_page_opened_during_an_outage_of_postgresql_shows_it_and_recovers(
    browser: Browser, fresh: Fresh
) -> None:
    away = {"status": 503, "detail": "PostgreSQL cannot be reached; nothing is lost"}
    async with page_of(browser, fresh.url, may_complain=True) as page:
        await page.route("**/v1/session", lambda route: route.fulfill(status=503, json=away))
        await page.goto("/")
        problem = page.get_by_role("alert")
        await expect(problem).to_have_text("PostgreSQL cannot be reached. Trying again.")
        await page.unroute("**/v1/session")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()

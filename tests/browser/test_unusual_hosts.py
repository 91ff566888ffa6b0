"""Hosts that have fallen silent or send other metrics, many series, and long names."""

import re

import pytest
from browsing import page_of
from hosts import host, send, series, times_until
from httpx import AsyncClient
from playwright.async_api import Browser, expect
from pushing import now_ms

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_MS = 3_600_000


async def test_a_host_that_fell_silent_opens_at_what_it_sent_last(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    await send(client, *host("gone", times=times_until(now_ms() - 2 * HOUR_MS, minutes=5)))
    async with page_of(browser, server) as page:
        await page.goto("/#/host/instance/gone")
        await expect(page.locator(".badge")).to_have_text("silent, seen 2 h ago")
        cpu = page.get_by_role("figure", name=re.compile("^CPU\\."))
        await expect(cpu.locator("canvas").first).to_be_visible()
        await expect(cpu.locator(".legend li").first).to_have_text(re.compile(r"user0\.\d+"))
        await expect(page.get_by_text("Nothing stands out now.")).to_have_count(0)
        await page.get_by_role("button", name="Back to now").click()
        await expect(cpu).to_contain_text("No samples in this time.")


async def test_a_host_without_vitals_says_what_it_sends(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    at = [[now_ms() - 2 * HOUR_MS, 1.0]]
    await send(client, *(series(f"app_{n}", at, host="app") for n in range(9)))
    async with page_of(browser, server) as page:
        await page.goto("/")
        card = page.locator(".card", has_text="app")
        await expect(card).to_contain_text("9 series")
        await expect(card).to_contain_text("Seenover 1 h ago")
        await expect(card.get_by_role("meter")).to_have_count(0)


async def test_hosts_that_share_a_name_are_told_apart(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    at = [[now_ms(), 1.0]]
    await send(client, series("a", at, host="twin"), series("b", at, instance="twin"))
    async with page_of(browser, server) as page:
        await page.goto("/")
        names = page.locator(".card h2", has_text="twin")
        await expect(names).to_have_count(2)
        assert set(await names.all_text_contents()) == {"host=twin", "instance=twin"}


async def test_among_many_lines_the_one_under_the_cursor_is_named(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    times = times_until(now_ms(), minutes=14)
    levels = (series("crowd", [[time, n] for time in times], n=f"n{n}") for n in range(1, 41))
    await send(client, *levels)
    async with page_of(browser, server) as page:
        await page.goto("/#/explore?match=crowd")
        area = page.locator(".u-over")
        await expect(area).to_be_visible()
        legend = page.locator(".legend")
        await expect(legend).to_contain_text("and 35 more")
        await expect(legend).not_to_contain_text("n10")
        size = await area.bounding_box()
        assert size is not None
        # The axis goes from 0 to 1.08 times the largest value.
        await area.hover(
            position={"x": size["width"] / 2, "y": size["height"] * (1 - 10 / (40 * 1.08))}
        )
        await expect(legend.locator(".near")).to_have_text("n1010")


async def test_long_values_are_told_apart_by_their_ends(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    at = [[now_ms() - 10_000, 1.0], [now_ms(), 1.0]]
    paths = [f"/api/v1/{'x' * 300}/{end}" for end in ("orders", "users")]
    await send(client, *(series("calls", at, path=path) for path in paths))
    async with page_of(browser, server) as page:
        await page.goto("/#/explore?match=calls")
        names = page.locator(".legend .name")
        await expect(names).to_have_count(2)
        assert set(await names.all_text_contents()) == {"…xxxxxxx/orders", "…xxxxxxx/users"}
        whole = names.filter(has_text="orders")
        await expect(whole).to_have_attribute("title", f"path={paths[0]}")


async def test_a_selector_of_nothing_is_told_from_a_time_without_samples(
    browser: Browser, server: str
) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/#/explore?match=no_such_metric")
        await expect(page.get_by_text("No series matches this selector.")).to_be_visible()
        await page.goto("/#/explore?match=node_load1&time=5m@1700000000000")
        await expect(page.get_by_text("No samples in this time.")).to_be_visible()


async def test_nothing_on_a_card_is_cut_or_reaches_beyond_it(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    await send(client, series("node_load1", [[now_ms(), 13.14]], instance="web-1", job="node"))
    is_whole = "(one) => one.scrollWidth <= one.clientWidth"
    for width in (1024, 1280, 1440):
        size = {"width": width, "height": 800}
        async with page_of(browser, server, viewport=size) as page:
            await page.goto("/")
            facts = page.locator(".card", has_text="web-1").locator("dl")
            await expect(facts).to_contain_text("13.1 on 2 cores")
            for one in (facts, *await facts.locator("dd").all()):
                assert await one.evaluate(is_whole), await one.text_content()

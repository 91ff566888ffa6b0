"""Each view of the dashboard, in a real Chromium, on a real server."""

import re
from urllib.parse import quote

import pytest
from browsing import page_of, serious_violations
from conftest import execute
from hosts import send, series
from httpx import AsyncClient
from playwright.async_api import Browser, expect
from pushing import now_ms

pytestmark = pytest.mark.asyncio(loop_scope="module")

_NOTE_SHIFTS = """
shifts = [];
new PerformanceObserver((list) => {
  for (const { value, sources } of list.getEntries())
    shifts.push({ value, of: sources.map(({ node }) => node?.outerHTML?.slice(0, 100)) });
}).observe({ type: "layout-shift", buffered: true });
"""

VIEWS = ("/", "/#/host/instance/web-1", "/#/explore?match=node_load1", "/#/ingest")


async def test_hosts_are_cards_with_those_in_trouble_first(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/")
        cards = page.locator(".card h2")
        await expect(cards).to_have_text(["web-3", "web-2", "web-1"])
        await expect(page.locator(".summary")).to_have_text("3 hosts, 2 up, 1 silent")
        card = page.locator(".card", has_text="web-1")
        meters = card.get_by_role("meter")
        await expect(meters.nth(0)).to_have_attribute("aria-valuetext", "25 %")
        await expect(meters.nth(1)).to_have_attribute("aria-valuetext", "60 %")
        await expect(meters.nth(2)).to_have_attribute("aria-valuetext", "50 %")
        await expect(card.locator(".badge")).to_have_text("up")
        await expect(card).to_contain_text("on 2 cores")
        await expect(page.get_by_role("status")).to_contain_text("Live")


async def test_new_samples_appear_without_reloading(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/")
        card = page.locator(".card", has_text="web-1")
        await expect(card).to_contain_text("0.5 on 2 cores")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        place = {"instance": "web-1", "job": "node"}
        await send(client, series("node_load1", [[now_ms(), 7.25]], **place))
        await expect(card).to_contain_text("7.25 on 2 cores")
        assert not [url for url in asked if "/v1/range" in url]


async def test_a_host_has_charts_of_its_metrics(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/#/host/instance/web-1")
        cpu = page.get_by_role("figure", name=re.compile("^CPU"))
        await expect(cpu.locator("canvas")).to_be_visible()
        await expect(cpu.locator(".legend li")).to_have_text(
            [re.compile("user"), re.compile("system")]
        )
        memory = page.get_by_role("figure", name=re.compile("^Memory"))
        await expect(memory.locator(".legend li")).to_have_text(
            ["used9.6 GiB", "cache3.2 GiB", "free3.2 GiB"]
        )
        network = page.get_by_role("figure", name=re.compile("^Network"))
        await expect(network.locator(".legend")).to_contain_text("/s")
        await page.get_by_role("searchbox").fill("filesystem_size")
        found = page.get_by_role("figure", name=re.compile("^node_filesystem_size_bytes"))
        await expect(found.locator(".legend")).to_contain_text("100 GiB")


async def test_charts_zoom_and_move_by_keys_and_by_dragging(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/#/host/instance/web-1")
        chart = page.get_by_role("figure", name=re.compile("^Load"))
        await expect(chart.locator("canvas")).to_be_visible()
        await chart.focus()
        await chart.press("ArrowLeft")
        await expect(page).to_have_url(re.compile("time=15m%40"))
        await expect(page.get_by_role("button", name="Back to now")).to_be_visible()
        await chart.press("+")
        await expect(page).to_have_url(re.compile("time=450s%40"))
        await chart.press("0")
        await expect(page.get_by_role("button", name="Following now")).to_be_visible()
        area = chart.locator(".u-over")
        await expect(area).to_be_visible()
        await area.drag_to(
            area, source_position={"x": 40, "y": 60}, target_position={"x": 160, "y": 60}
        )
        await expect(page).to_have_url(re.compile(r"time=\d+s%40"))
        await page.get_by_role("button", name="30d").click()
        await expect(page).to_have_url(re.compile("time=30d$"))
        await expect(chart.locator(".legend")).to_contain_text("load1")


async def test_underscores_of_a_selector_are_to_be_seen(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        pictures = set()
        for match in ('up{a="_"}', 'up{a=" "}'):
            await page.goto(f"/#/explore?match={quote(match)}")
            field = page.get_by_role("combobox", name="Selector")
            await expect(field).to_have_value(match)
            await field.blur()
            pictures.add(await field.screenshot(caret="hide"))
        assert len(pictures) == 2


async def test_a_selector_is_completed_as_it_is_written(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/#/explore")
        field = page.get_by_role("combobox", name="Selector")
        await field.press_sequentially("node_net")
        offers = page.locator("#offers li")
        await expect(offers).to_have_count(2)
        await field.press("ArrowDown")
        await field.press("Enter")
        await expect(field).to_have_value("node_network_receive_bytes_total")
        await field.press("End")
        await field.press_sequentially("{inst")
        await expect(offers.first).to_contain_text("instance")
        await field.press("ArrowDown")
        await field.press("Enter")
        await expect(offers.first).to_contain_text("web-1")
        await field.press("ArrowDown")
        await field.press("Enter")
        await expect(field).to_have_value('node_network_receive_bytes_total{instance="web-1"}')
        await expect(page.locator(".table tbody tr")).to_have_count(1)


async def test_a_link_restores_the_query(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        match = quote('{__name__=~"node_memory_.*"}')
        await page.goto(f"/#/explore?match={match}&fn=max&by=instance&across=sum&step=30s&time=1h")
        await expect(page.get_by_label("Function")).to_have_value("max")
        await expect(page.get_by_label("Step")).to_have_value("30s")
        await expect(page.get_by_label("Group by")).to_have_value("instance")
        await expect(page.get_by_label("Across")).to_have_value("sum")
        rows = page.locator(".table tbody th")
        await expect(rows).to_have_text(["web-1", "web-2", "web-3"])
        await expect(page.locator(".table tbody tr").first).to_contain_text("25.6 GiB")


async def test_what_is_being_typed_stays_when_samples_arrive(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/#/explore?match=typed&step=30s&time=15m")
        step, labels = page.get_by_label("Step"), page.get_by_label("Group by")
        await expect(step).to_have_value("30s")
        for field, text in ((step, "45"), (labels, "inst")):
            await field.fill(text)
            await send(client, series("typed", [[now_ms(), 7.0]], instance=text))
            await expect(page.locator(".table tbody")).to_contain_text(text)
            await expect(field).to_have_value(text)


async def test_a_step_that_cannot_be_used_is_told_with_the_one_that_is(
    browser: Browser, server: str
) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/#/explore?match=node_load1&step=1ms&time=15m")
        told = page.get_by_role("alert")
        await expect(told).to_have_text("Too short for this time: it is 5s")
        step = page.get_by_label("Step")
        await step.fill("soon")
        await step.press("Enter")
        await expect(told).to_have_text("Not a step like 30s: it is 5s")
        await step.fill("30s")
        await step.press("Enter")
        await expect(told).to_have_count(0)


@pytest.mark.parametrize("fn", ["avg", "rate", "increase", "p90", "last"])
async def test_url_and_sql_answer_the_same(
    browser: Browser, server: str, client: AsyncClient, shared_database_url: str, fn: str
) -> None:
    end = now_ms() - 60_000
    match = quote('node_network_receive_bytes_total{instance!="web-3",device=~"eth.*"}')
    async with page_of(browser, server) as page:
        view = f"/#/explore?match={match}&fn={fn}&by=instance&across=sum&step=1m&time=6m"
        await page.goto(f"{view.replace('6m', '360s')}%40{end}")
        await page.get_by_text("The same as URL").click()
        url = await page.get_by_label("URL", exact=True).inner_text()
        sql = await page.get_by_label("SQL", exact=True).inner_text()
    answer = (await client.get(url)).json()["series"]
    told = [value for one in answer for _, value in one["samples"] if value is not None]
    rows = [line.split("|") for line in execute(shared_database_url, sql).splitlines()]
    assert {row[0] for row in rows} == {"web-1", "web-2"}
    assert [float(row[-1]) for row in rows] == pytest.approx(told, rel=1e-6)


async def test_an_invalid_selector_is_explained_at_its_position(
    browser: Browser, server: str
) -> None:
    async with page_of(browser, server, may_complain=True) as page:
        await page.goto(f"/#/explore?match={quote('node_load1{')}")
        await expect(page.get_by_role("alert")).to_contain_text("not a vector selector")


async def test_ingest_shows_what_was_refused_and_why(
    browser: Browser, server: str, client: AsyncClient
) -> None:
    old = {"metric": "m", "labels": {}, "samples": [[1_000_000_000_000, 1]]}
    assert (await client.post("/v1/samples", json={"series": [old]})).status_code == 422
    async with page_of(browser, server) as page:
        await page.goto("/#/ingest")
        await expect(
            page.get_by_role("row", name=re.compile("too_old.*INFRAWATCH_RETENTION"))
        ).to_be_visible()
        await expect(page.get_by_role("row", name=re.compile("^native"))).to_be_visible()
        await expect(page.get_by_role("figure", name=re.compile("^Samples per"))).to_be_visible()


async def test_labels_stay_text(browser: Browser, server: str, client: AsyncClient) -> None:
    evil = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    sample = [[now_ms(), 1]]
    await send(client, series("evil_metric", sample, instance=evil, note=evil))
    async with page_of(browser, server) as page:
        await page.goto("/")
        await expect(page.locator(".card h2", has_text="owned")).to_have_text(evil)
        await page.locator(".card", has_text="owned").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(evil)
        await page.goto("/#/explore?match=evil_metric&by=note")
        await expect(page.locator(".table tbody th")).to_have_text([evil])
        assert await page.locator("#page script, #page img").count() == 0
        assert "owned" not in (await page.title()).replace(evil, "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(browser: Browser, server: str, scheme: str) -> None:
    async with page_of(browser, server, color_scheme=scheme) as page:
        for view in VIEWS:
            await page.goto("about:blank")
            await page.goto(view)
            await expect(page.locator(".card, .chart canvas").first).to_be_visible()
            assert await serious_violations(page) == []


async def test_everything_fits_on_a_phone(browser: Browser, server: str) -> None:
    async with page_of(browser, server, viewport={"width": 360, "height": 740}) as page:
        for view in VIEWS:
            await page.goto("about:blank")
            await page.goto(view)
            await expect(page.locator(".card, .chart canvas").first).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("view", [*VIEWS, "/#/explore?match=crowded"])
async def test_content_does_not_shift_while_samples_arrive(
    browser: Browser, server: str, client: AsyncClient, view: str
) -> None:
    """Cumulative Layout Shift, of which Web Vitals call 0.1 good, from the first paint on."""
    now = now_ms()
    many = (series("crowded", [[now - 60_000, n], [now, n]], n=str(n)) for n in range(200))
    await send(client, *many)
    async with page_of(browser, server) as page:
        await page.add_init_script(_NOTE_SHIFTS)
        await page.goto(view)
        await expect(page.locator("main")).to_contain_text(
            re.compile("web-1|crowded|native"), timeout=15_000
        )
        place = {"instance": "web-1", "job": "node"}
        for value in (2e9, 3e9):
            await send(client, series("node_memory_Cached_bytes", [[now_ms(), value]], **place))
            await page.wait_for_timeout(500)
        shifts = await page.evaluate("shifts")
    assert sum(one["value"] for one in shifts) < 0.02, shifts


async def test_the_theme_is_remembered(browser: Browser, server: str) -> None:
    async with page_of(browser, server, color_scheme="light") as page:
        await page.goto("/")
        await page.get_by_role("button", name="Switch to dark").click()
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_what_is_chosen_stays_legible_under_the_cursor(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/#/explore?match=node_load1")
        chosen = page.get_by_role("button", name="15m, the last 15 minutes")
        background = "(button) => getComputedStyle(button).backgroundColor"
        await expect(chosen).to_have_attribute("aria-pressed", "true")
        before = await chosen.evaluate(background)
        await chosen.hover()
        assert await chosen.evaluate(background) == before

"""The line between page and server: what it shows when there is none, and what it missed."""

import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from browsing import page_of
from database_proxy import Road, proxied
from hosts import host, send, series
from httpx import AsyncClient
from playwright.async_api import Browser, Page, WebSocketRoute, expect
from pushing import Batch, now_ms
from serving_live import live_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def empty_server(database_url: str) -> AsyncIterator[str]:
    async with live_server(database_url) as url:
        yield url


NOTICED_MS = 17_000
"""Heartbeats come every 5 s; without one for this long, a line is dead though it stands."""


def _level(value: float) -> Batch:
    return series("water_level", [[now_ms(), value]], instance="tank")


async def _shows(page: Page, most: str) -> None:
    """The table's last column, which has the largest value of the time on the screen."""
    await expect(page.locator(".table tbody tr td:last-child")).to_have_text(most)


async def test_an_empty_server_shows_what_to_run_and_then_the_first_samples(
    browser: Browser, empty_server: str
) -> None:
    async with page_of(browser, empty_server) as page:
        await page.goto("/")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Nothing has been sent yet")
        await expect(page.locator("pre")).to_contain_text(f"agent --url {empty_server}")
        await page.get_by_role("button", name="Prometheus").click()
        await expect(page.locator("pre")).to_contain_text(f"{empty_server}/api/v1/write")
        async with AsyncClient(base_url=empty_server, timeout=30) as client:
            await send(client, _level(1))
        await expect(page.locator(".card h2")).to_have_text("tank")


async def test_among_many_hosts_one_is_found_by_its_name(
    browser: Browser, empty_server: str
) -> None:
    names = [f"web-{n}.{place}.example" for n in range(10) for place in ("eu", "us")]
    async with AsyncClient(base_url=empty_server, timeout=30) as client:
        await send(client, *(series("up", [[now_ms(), 1]], instance=name) for name in names))
    async with page_of(browser, empty_server) as page:
        await page.goto("/")
        cards = page.locator(".card h2")
        await expect(cards).to_have_count(20)
        await page.get_by_role("searchbox", name="Hosts").fill("WEB-3.")
        await expect(cards).to_have_text(["web-3.eu.example", "web-3.us.example"])
        await page.get_by_role("searchbox", name="Hosts").fill("db")
        await expect(page.get_by_text("No host has that in its name.")).to_be_visible()
        await expect(page.locator(".summary")).to_have_text("20 hosts, 20 up")


@pytest.mark.parametrize("how", [Road.CLOSED, Road.SILENT])
async def test_samples_committed_during_a_disconnect_are_filled_in(
    browser: Browser, empty_server: str, how: Road
) -> None:
    async with (
        proxied(f"{empty_server}/") as line,
        AsyncClient(base_url=empty_server, timeout=30) as client,
    ):
        await send(client, _level(1))
        # The console of a browser says so itself when a connection fails.
        async with page_of(browser, line.url, may_complain=True) as page:
            await page.clock.install()
            await page.goto("/#/explore?match=water_level&fn=max")
            status = page.get_by_role("status")
            await _shows(page, "1")
            await expect(status).to_contain_text("Live")
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            if how is Road.CLOSED:
                line.close()
            else:
                line.road = how
            await send(client, _level(99))
            await send(client, _level(2))
            if how is Road.SILENT:
                await page.clock.fast_forward(NOTICED_MS)
            await expect(status).to_contain_text(re.compile("Connecting|Behind|Stale"))
            line.road = Road.OPEN
            await expect(status).to_contain_text("Gap filled", timeout=30_000)
            await _shows(page, "99")
            assert not [url for url in asked if "/v1/range" in url]
            await send(client, _level(100))
            await _shows(page, "100")


async def test_an_unreachable_server_makes_the_page_stale(
    browser: Browser, empty_server: str
) -> None:
    async with (
        proxied(f"{empty_server}/") as line,
        page_of(browser, line.url, may_complain=True) as page,
    ):
        await page.clock.install()
        await page.goto("/#/explore?match=water_level")
        await expect(page.get_by_role("status")).to_contain_text("Live")
        line.close()
        await expect(page.get_by_role("status")).to_contain_text("Connecting")
        await page.clock.fast_forward(NOTICED_MS)
        await expect(page.get_by_role("status")).to_contain_text("Stale")


async def test_no_host_is_called_silent_while_the_server_is_unreachable(
    browser: Browser, empty_server: str
) -> None:
    async with (
        proxied(f"{empty_server}/") as line,
        AsyncClient(base_url=empty_server, timeout=30) as client,
        page_of(browser, line.url, may_complain=True) as page,
    ):
        await send(client, *host("here", times=[now_ms()]))
        await page.clock.install()
        await page.goto("/")
        badge = page.locator(".card", has_text="here").locator(".badge")
        await expect(badge).to_have_text("up")
        line.close()
        await page.clock.fast_forward(NOTICED_MS)
        await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        await page.clock.fast_forward(300_000)
        await expect(page.locator(".card", has_text="here")).to_contain_text("5 min ago")
        await expect(badge).to_have_text("up")


@pytest.mark.parametrize("hours", [1, -1])
async def test_the_newest_samples_are_shown_even_if_the_clock_is_wrong(
    browser: Browser, empty_server: str, hours: int
) -> None:
    async with (
        page_of(browser, empty_server) as page,
        AsyncClient(base_url=empty_server, timeout=30) as client,
    ):
        await page.clock.install(time=(now_ms() + hours * 3_600_000) / 1_000)
        await send(client, _level(1), *host("here", times=[now_ms()]))
        await page.goto("/")
        card = page.locator(".card", has_text="here")
        await expect(card.locator(".badge")).to_have_text("up")
        await expect(card).to_contain_text(re.compile(r"Seen(just now|\d+ s ago)"))
        await page.goto("/#/explore?match=water_level&fn=max")
        await _shows(page, "1")
        await send(client, _level(2))
        await _shows(page, "2")


class _Between:
    """Passes frames on; what heartbeats tell of the database is for the test to choose."""

    def __init__(self) -> None:
        self._beat = {"type": "heartbeat", "cursor": "", "age_ms": 0}
        self._page: WebSocketRoute | None = None

    def stand(self, page: WebSocketRoute) -> None:
        self._page = page
        server = page.connect_to_server()
        page.on_message(server.send)
        server.on_message(lambda message: self._tell(json.loads(message)))

    def beat(self, silent_ms: int) -> None:
        """Tell now, and from now on, for how long the database has been silent."""
        self._beat["age_ms"] = silent_ms
        self._tell(self._beat)

    def _tell(self, frame: dict[str, object]) -> None:
        assert self._page is not None
        self._beat["cursor"] = frame.get("cursor", self._beat["cursor"])
        is_beat = frame["type"] == "heartbeat"
        self._page.send(json.dumps(self._beat if is_beat else frame))


async def test_a_hanging_database_is_distinguished_from_silent_senders(
    browser: Browser, empty_server: str
) -> None:
    between = _Between()
    async with (
        page_of(browser, empty_server) as page,
        AsyncClient(base_url=empty_server, timeout=30) as client,
    ):
        await send(client, _level(1))
        await page.clock.install()
        await page.route_web_socket("**/v1/live", between.stand)
        await page.goto("/#/explore?match=water_level&fn=max")
        await _shows(page, "1")
        pill = page.get_by_role("status")
        await expect(pill).to_contain_text("Live")
        between.beat(silent_ms=6_000)
        await expect(pill).to_have_text(re.compile(r"Stalled.*does not answer.*for \d+ s"))
        await page.clock.fast_forward(8_000)
        between.beat(silent_ms=0)
        await expect(pill).to_contain_text("Live")
        await page.clock.fast_forward(8_000)
        await expect(pill).to_have_text(re.compile(r"Live.*nothing new.*last data \d+ s ago"))
        await send(client, _level(2))
        await expect(pill).to_contain_text("Live. Every sample arrives as it is committed.")

"""The pictures of the dashboard in docs/images, of made-up hosts: `make screenshots`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import pytest_asyncio
from browsing import page_of
from hosts import host, send, times_until
from httpx import AsyncClient
from playwright.async_api import Browser, expect
from pushing import now_ms
from serving_live import live_server

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Picture(NamedTuple):
    name: str
    view: str
    scheme: str = "light"
    width: int = 1280
    height: int = 800


EXPLORED = quote('node_network_receive_bytes_total{instance=~"web-.*"}')
PICTURES = (
    Picture("overview", "/"),
    Picture("overview-dark", "/", "dark"),
    Picture("host", "/#/host/instance/db-1", "dark", width=1440, height=1200),
    Picture("explore", f"/#/explore?match={EXPLORED}&by=instance"),
    Picture("phone", "/", width=360, height=740),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(shared_database_url: str) -> AsyncIterator[str]:
    """A server with eight hosts of different moods."""
    gone = times_until(now_ms() - 200_000, minutes=11)
    hosts = [
        host("web-1", busy=0.31, memory=0.44, disk=0.38, restless=0.6),
        host("web-2", busy=0.27, memory=0.47, disk=0.41, restless=0.7),
        host("web-3", busy=0.35, memory=0.42, disk=0.39, restless=0.5),
        host("db-1", busy=0.58, memory=0.72, disk=0.66, restless=0.4),
        host("db-2", busy=0.22, memory=0.71, disk=0.96, restless=0.5),
        host("cache-1", busy=0.12, memory=0.91, disk=0.15, restless=0.15),
        host("build-1", busy=0.74, memory=0.55, disk=0.77, restless=0.25),
        host("edge-1", busy=0.09, memory=0.28, disk=0.22, restless=0.5, times=gone),
    ]
    async with live_server(shared_database_url) as url:
        async with AsyncClient(base_url=url, timeout=30) as client:
            for one in hosts:
                await send(client, *one)
        yield url


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
async def test_a_picture_is_taken(browser: Browser, fleet: str, picture: Picture) -> None:
    size = {"width": picture.width, "height": picture.height}
    async with page_of(browser, fleet, color_scheme=picture.scheme, viewport=size) as page:
        await page.goto(picture.view)
        await expect(page.locator(".meter b, .chart canvas").last).to_be_visible()
        await expect(page.get_by_text("Loading…").locator("visible=true")).to_have_count(0)
        await expect(page.get_by_role("status")).to_contain_text("Live")
        IMAGES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=IMAGES / f"{picture.name}.png")

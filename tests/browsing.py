"""Pages of a real Chromium, and everything it complains about."""

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, WebSocket, async_playwright
from viewing import check

import infrawatch.web.router as web

ROOT = Path(__file__).parent.parent
AXE = ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"

CHROMIUM = "INFRAWATCH_TEST_CHROMIUM"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# It runs as whoever runs the tests, also root in a container, and asks nobody for updates.
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--metrics-recording-only"),
    # Each window would load two pages for its address bar, a second of CPU that nobody sees.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
)

# What the policy forbade does not always reach the console.
_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`));
"""


@asynccontextmanager
async def browsing() -> AsyncGenerator[Browser, None]:
    """Run a Chromium; a machine without one skips the tests that need it."""
    assert (web.DASHBOARD / "index.html").exists(), "the dashboard is not built: run `make setup`"
    found = os.environ.get(CHROMIUM) or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip(f"NO BROWSER TESTED: install chromium, or say in {CHROMIUM} where it is")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        await browser.close()


@asynccontextmanager
async def page_of(
    browser: Browser, url: str, *, may_complain: bool = False, **context: Any
) -> AsyncGenerator[Page, None]:
    """A page with nothing remembered; afterwards it must not have complained about anything."""
    visitor = await browser.new_context(base_url=url, locale="en-GB", **context)
    visitor.set_default_timeout(60_000)
    await visitor.add_init_script(_REPORT_VIOLATIONS)
    page = await visitor.new_page()
    complaints: list[str] = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("websocket", lambda live: _check_frames(live, complaints))
    yield page
    await visitor.close()
    assert may_complain or complaints == []


def _check_frames(live: WebSocket, complaints: list[str]) -> None:
    """Hold what either side sends against /asyncapi.json."""

    def noted(frame: str | bytes) -> None:
        try:
            check(frame)
        except (LookupError, ValueError) as error:
            complaints.append(f"{error} in {frame[:200]!r}")

    live.on("framereceived", noted)
    live.on("framesent", noted)


async def serious_violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA that is serious or worse."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
    )
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]

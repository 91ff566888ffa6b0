"""Signing in: the form for users without a session, and that all pages work afterwards."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from browsing import page_of, serious_violations
from hosts import host, send, series
from httpx import AsyncClient
from identity_provider import CLIENT, providing
from keys import TESTS, a_key, bearing
from playwright.async_api import Browser, Page, expect
from pushing import now_ms
from serving_live import live_server

from infrawatch.access.login.passwords import set_password
from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "correct horse battery"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(shared_database_url: str) -> AsyncIterator[AsyncClient]:
    """An agent with a key, of a server that requires one."""
    key = await a_key(shared_database_url, "write", "read")
    async with Database.open(shared_database_url, write_pool_size=1) as database:
        await set_password(database, PASSWORD, TESTS)
    async with (
        live_server(shared_database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30, headers=bearing(key)) as client,
    ):
        await send(client, *host("web-1"))
        yield client


async def _enter(page: Page, label: str, secret: str) -> None:
    await page.get_by_label(label).fill(secret)
    button = page.locator("form", has=page.get_by_label(label)).get_by_role("button")
    await button.click()


async def test_a_user_signs_in_sees_samples_and_signs_out(
    browser: Browser, guarded: AsyncClient
) -> None:
    # The console of a browser says so itself when an answer is 401.
    async with page_of(browser, str(guarded.base_url), may_complain=True) as page:
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        await page.goto("/#/explore?match=water_level&fn=max")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        assert await serious_violations(page) == []
        await _enter(page, "Password", "not the password")
        await expect(page.get_by_role("alert")).to_contain_text("this password is wrong")
        await _enter(page, "Password", PASSWORD)
        await expect(page.locator(".who")).to_contain_text("admin")
        await expect(page.get_by_role("status")).to_contain_text("Live")
        assert await serious_violations(page) == []

        for value in (7, 9):
            water = series("water_level", [[now_ms(), value]], instance="tank")
            await send(guarded, water)
            last = page.locator(".table tbody tr td:last-child")
            await expect(last).to_have_text(str(value))
        await page.reload()
        await expect(page.locator(".who")).to_contain_text("admin")
        await page.goto("/")
        await expect(page.locator(".card h2").first).to_be_visible()

        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        errors = [text for text in complaints if text.startswith("error")]
        assert [text for text in errors if "401" not in text] == []


async def test_a_key_is_traded_for_a_session_and_kept_nowhere(
    browser: Browser, guarded: AsyncClient, shared_database_url: str
) -> None:
    key = await a_key(shared_database_url, "read", name="somebody's")
    async with page_of(browser, str(guarded.base_url), may_complain=True) as page:
        await page.goto("/")
        await page.get_by_text("Use an API key").click()
        await _enter(page, "API key", f"{key[:-1]}!")
        await expect(page.get_by_role("alert")).to_contain_text("This key is wrong")
        await _enter(page, "API key", key)
        await expect(page.locator(".who")).to_contain_text("somebody's")
        card = page.locator(".card h2", has_text="web-1")
        await expect(card).to_be_visible()
        kept = await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert key not in kept
        assert await page.evaluate("document.cookie") == ""


async def test_a_session_ended_elsewhere_leads_back_to_the_sign_in_page(
    browser: Browser, guarded: AsyncClient, shared_database_url: str
) -> None:
    async with page_of(browser, str(guarded.base_url), may_complain=True) as page:
        await page.goto("/")
        await _enter(page, "Password", PASSWORD)
        await expect(page.get_by_role("status")).to_contain_text("Live")
        async with Database.open(shared_database_url, write_pool_size=1) as database:
            await set_password(database, PASSWORD, TESTS)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


async def test_while_authentication_is_off_nobody_is_asked(browser: Browser, server: str) -> None:
    async with page_of(browser, server) as page:
        await page.goto("/")
        await expect(page.locator(".card h2").first).to_be_visible()
        await expect(page.get_by_role("button", name=re.compile("[Ss]ign"))).to_have_count(0)


async def test_a_user_signs_in_at_the_identity_provider(
    browser: Browser, shared_database_url: str
) -> None:
    async with (
        providing() as provider,
        live_server(
            shared_database_url,
            auth="required",
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT,
            oidc_client_secret_file=provider.secret_file,
            oidc_name="Example",
            oidc_roles="staff=read",
        ) as url,
        page_of(browser, url) as page,
    ):
        provider.claims = {"preferred_username": "ada", "groups": ["nobody"]}
        await page.goto("/")
        await page.get_by_role("link", name="Sign in with Example").click()
        await expect(page.get_by_role("alert")).to_contain_text("you have no access here")
        provider.claims["groups"] = ["staff"]
        await page.get_by_role("link", name="Sign in with Example").click()
        await expect(page.locator(".who")).to_contain_text("ada")
        status = page.get_by_role("status")
        await expect(status).to_contain_text("Live")

"""What browsers are served, and how it may be kept."""

from pathlib import Path

import pytest
from httpx import AsyncClient

from infrawatch.web import router


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page would be built; nothing is there."""
    monkeypatch.setattr(router, "DASHBOARD", tmp_path)
    return tmp_path


async def test_the_page_is_revalidated_each_time_and_loads_only_own_files(
    page: Path, client: AsyncClient
) -> None:
    (page / "index.html").write_text("<!doctype html>")
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_files_of_the_page_may_be_cached_for_ever(page: Path, client: AsyncClient) -> None:
    (page / "assets").mkdir()
    (page / "assets" / "index-1a2b.js").write_text("1")
    answer = await client.get("/assets/index-1a2b.js")
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.usefixtures("page")
async def test_a_page_that_was_not_built_explains_how_to_build_it(client: AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 404
    assert "make setup" in answer.text


@pytest.mark.parametrize("path", ["/v1/nothing", "/api/nothing", "/v1/", "/assets/nothing.js"])
async def test_unknown_paths_are_problems_and_never_the_page(
    client: AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"

"""The API pages work offline: all they load is ours, and is there."""

import re

import pytest
from httpx import AsyncClient


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_api_pages_load_nothing_from_elsewhere(client: AsyncClient, page: str) -> None:
    answer = await client.get(page)

    assert answer.status_code == 200
    assert "text/html" in answer.headers["content-type"]
    loaded = re.findall(r"""(?:src|href|spec-url)=["']([^"']+)["']""", answer.text)
    assert len(loaded) > 1
    for path in [*loaded, "/openapi.json"]:
        assert path.startswith("/"), path
        assert (await client.get(path)).status_code == 200, path
    assert "openapi.json" in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy


async def test_a_static_file_that_is_none_is_a_problem(client: AsyncClient) -> None:
    for path in ("/static/nothing.js", "/static/../settings.py", "/static/%2e%2e/router.py"):
        answer = await client.get(path)

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"

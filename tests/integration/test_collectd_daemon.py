"""Debian's collectd sends us this machine's load, configured as docs/pushing.md shows.

`make peers` installs it.
"""

import asyncio
import ctypes.util
import re
import shutil
from asyncio.subprocess import DEVNULL
from pathlib import Path

import pytest
from httpx import AsyncClient

# What its plugin write_http writes JSON with is only recommended by Debian's package.
COLLECTD = shutil.which("collectd") if ctypes.util.find_library("yajl") else None
WITHIN_S = 60

CONFIGURATION = """
Hostname "web-1"
Interval 1
BaseDir "{directory}"
PIDFile "{directory}/collectd.pid"
TypesDB "/usr/share/collectd/types.db"
LoadPlugin load
"""


@pytest.mark.skipif(COLLECTD is None, reason="no `collectd` here: `make peers` installs it")
async def test_measurements_of_collectd_are_stored(
    server: str, client: AsyncClient, tmp_path: Path
) -> None:
    configuration = tmp_path / "collectd.conf"
    configuration.write_text(
        CONFIGURATION.format(directory=tmp_path) + _shown().replace("http://127.0.0.1:8000", server)
    )
    assert COLLECTD is not None
    collectd = await asyncio.create_subprocess_exec(
        *(COLLECTD, "-f", "-C", str(configuration)), stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            while True:
                answer = await client.get("/v1/latest", params={"match": '{__name__=~"load.*"}'})
                if len(found := answer.json()["series"]) == 3:
                    break
                await asyncio.sleep(0.2)
    finally:
        collectd.terminate()
        await collectd.wait()

    assert {one["labels"]["host"] for one in found} == {"web-1"}
    assert {one["labels"]["plugin"] for one in found} == {"load"}
    assert all(one["value"] >= 0 for one in found)


def _shown() -> str:
    """The configuration for people to copy."""
    page = Path("docs/pushing.md").read_text()
    section = re.search(r"^## collectd\n+```text\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    assert section is not None
    return section[1]

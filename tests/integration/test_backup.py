"""Every way of docs/operating.md to back up and restore."""

import asyncio
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from commands import infrawatch, up
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving

from infrawatch.embedded.binaries import find_binaries

EVERYTHING = {"match": "kept", "start": "-1h"}


async def run(program: str, *arguments: str | Path) -> None:
    command = [str(find_binaries().program(program)), *map(str, arguments)]
    await asyncio.to_thread(subprocess.run, command, check=True)


async def push(url: str) -> None:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    samples = [[now_ms - n * 1000, n] for n in range(500)]
    batch = {"series": [{"metric": "kept", "labels": {"host": "a"}, "samples": samples}]}
    async with AsyncClient(base_url=url, timeout=30) as client:
        assert (await client.post("/v1/samples", json=batch)).status_code == 200


async def read(url: str) -> Any:
    async with AsyncClient(base_url=url, timeout=30) as client:
        return (await client.get("/v1/samples", params=EVERYTHING)).json()


def give_to_owner_of(original: Path, copy: Path) -> None:
    owner = original.stat()
    for path in (copy, *copy.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def database_url(data_dir: Path) -> str:
    return infrawatch("database-url", "--data-dir", data_dir).stdout.strip()


@pytest.mark.timeout(480)  # ten programs start, one after the other
async def test_a_dump_restores_everything(data_dir: Path, tmp_path: Path) -> None:
    dump = tmp_path / "infrawatch.dump"
    async with up(data_dir / "old", "--no-agent") as old, up(data_dir / "new", "--no-agent"):
        await push(old.url)
        infrawatch("compact", "--all", "--data-dir", data_dir / "old")
        await push(old.url)
        before = await read(old.url)
        await run("pg_dump", "--format=custom", "--file", dump, database_url(data_dir / "old"))

        new_url = database_url(data_dir / "new")
        restored = f"{new_url.rpartition('/')[0]}/restored"
        execute(new_url, "CREATE DATABASE restored")
        await run("pg_restore", "--no-owner", "--exit-on-error", "--dbname", restored, dump)

        async with serving(restored) as url:
            assert before["series"][0]["samples"]
            assert await read(url) == before


async def test_a_base_backup_is_a_data_directory(data_dir: Path) -> None:
    copy = data_dir / "copy"
    async with up(data_dir / "old", "--no-agent") as old:
        await push(old.url)
        before = await read(old.url)
        copy.mkdir()
        await run(
            *("pg_basebackup", "--wal-method=stream", "--checkpoint=fast"),
            *("--dbname", database_url(data_dir / "old"), "--pgdata", copy / "postgres"),
        )
    shutil.copy2(data_dir / "old" / "postgres.json", copy)
    give_to_owner_of(data_dir / "old" / "postgres", copy / "postgres")

    async with up(copy, "--no-agent") as restored:
        assert before["series"][0]["samples"]
        assert await read(restored.url) == before

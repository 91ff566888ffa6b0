"""`infrawatch keys` and `infrawatch tenants`, run as a user runs them; and the first key."""

import asyncio
import re
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from commands import infrawatch, started, up
from conftest import execute
from httpx import AsyncClient
from integration.conftest import serving
from keys import TESTS, a_key, bearing
from pushing import push, series
from viewing import until

from infrawatch.access.keys.changes import KeySpec, revoke_key
from infrawatch.access.keys.credentials import ApiKey
from infrawatch.access.keys.provisioning import find_first_key, keep_key_file
from infrawatch.access.principal import DEFAULT_TENANT_ID
from infrawatch.access.tenants import create_tenant
from infrawatch.errors import AlreadyExists, CannotStart
from infrawatch.store.database import Database

KEY = re.compile(r"iw_[0-9a-f]{12}_[A-Za-z0-9]{43}")


def keys(url: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    done = infrawatch("keys", *arguments, url=url)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[AsyncClient]:
    async with (
        serving(database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


async def test_a_key_is_created_listed_and_revoked_while_a_server_runs(
    database_url: str, client: AsyncClient
) -> None:
    made = keys(database_url, "create", "--name", "agent 1", "--scope", "write", "--expires", "90d")
    key = made.stdout.strip()
    assert KEY.fullmatch(key), "stdout is only the key"
    key_id = key.split("_")[1]
    assert (await push(client, series("up"))).status_code == 401
    client.headers.update(bearing(key))
    assert (await push(client, series("up"))).status_code == 200

    [head, row] = keys(database_url, "list").stdout.splitlines()
    assert head.split("  ")[0] == "ID"
    assert re.match(rf"{key_id}  default  agent 1  write   20\S+Z  .*until 20", row), row
    assert key not in row

    assert key_id in keys(database_url, "revoke", key_id).stderr

    async def is_refused() -> bool:
        return (await push(client, series("up"))).status_code == 401

    await until(is_refused)
    assert execute(database_url, "SELECT string_agg(action, ' ' ORDER BY id) FROM audit") == (
        "key.created key.revoked"
    )


async def test_last_use_is_recorded_soon_and_seldom(database_url: str, client: AsyncClient) -> None:
    client.headers.update(bearing(await a_key(database_url, "write")))

    async def is_recorded() -> bool:
        await push(client, series("up"))
        return execute(database_url, "SELECT last_used_at FROM api_keys") != ""

    await until(is_recorded)
    versions = "SELECT xmin FROM api_keys"
    before = execute(database_url, versions)
    for _ in range(20):
        await push(client, series("up"))
    assert execute(database_url, versions) == before


async def test_a_key_in_a_file_is_made_once(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "agent.key"
    spec = KeySpec(DEFAULT_TENANT_ID, "agent", ("write",))

    assert await keep_key_file(database, file, spec, TESTS)
    key = file.read_text().strip()
    assert not await keep_key_file(database, file, spec, TESTS)

    assert KEY.fullmatch(key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() == key

    await revoke_key(database, key.split("_")[1], TESTS)

    assert await keep_key_file(database, file, spec, TESTS), "a revoked key is replaced"
    assert file.read_text().strip() != key


async def test_two_processes_that_need_the_same_key_file_create_one_key(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    spec = KeySpec(DEFAULT_TENANT_ID, "agent", ("write",))

    made = [keep_key_file(database, tmp_path / "agent.key", spec, TESTS) for _ in range(3)]

    assert sorted(await asyncio.gather(*made)) == [False, False, True]
    assert execute(database_url, "SELECT count(*) FROM api_keys") == "1"


async def test_a_key_that_cannot_be_written_is_not_made(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    spec = KeySpec(DEFAULT_TENANT_ID, "agent", ("write",))

    with pytest.raises(CannotStart, match="cannot be"):
        await keep_key_file(database, tmp_path / "file" / "agent.key", spec, TESTS)

    assert execute(database_url, "SELECT count(*) FROM api_keys") == "0"


def test_a_tenant_is_made_and_then_a_key_for_it(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    wish = ("--name", "a", "--scope", "read", "--tenant", "shop", "--if-absent", "--to-file", file)

    created = infrawatch("tenants", "create", "shop", url=database_url)
    made = keys(database_url, "create", *wish)
    listed = infrawatch("tenants", "list", url=database_url)

    assert created.returncode == 0, created.stderr
    assert (made.stdout, KEY.fullmatch(file.read_text().strip()) is None) == ("", False)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NAME", "default", "shop"]
    assert execute(database_url, "SELECT tenant_id FROM api_keys") == "2"


async def test_there_is_one_tenant_of_a_name(database: Database) -> None:
    await create_tenant(database, "shop", TESTS)

    with pytest.raises(AlreadyExists, match="there is a tenant shop already"):
        await create_tenant(database, "shop", TESTS)


def test_an_invalid_key_option_is_explained_in_a_sentence() -> None:
    refused = infrawatch("keys", "create", "--name", "a", "--scope", "root")

    assert refused.returncode == 2
    assert "'root' is not a scope: use write, read, admin" in refused.stderr


async def test_the_first_start_that_needs_keys_prints_one_once(
    database: Database, database_url: str
) -> None:
    arguments = ("serve", "--host", "0.0.0.0", "--port", "0", "--workers", "2")
    async with started(arguments, r"InfraWatch serves \S+", url=database_url) as first:
        [key] = KEY.findall(first.output)
        async with AsyncClient(
            base_url=first.output.split()[-1], headers=bearing(key), timeout=30
        ) as client:
            assert (await push(client, series("up"))).status_code == 200
            assert (await client.get("/v1/labels")).status_code == 200
            assert (await client.get("/v1/keys")).status_code == 200
            assert (await client.get("/v1/labels", headers=bearing("no"))).status_code == 401
        for _ in range(10):  # each on a connection of its own, so that both workers are asked
            async with AsyncClient(base_url=first.output.split()[-1], timeout=30) as client:
                answer = await client.get("/v1/labels", headers={"Host": "localhost"})
                assert answer.status_code == 401

    assert await find_first_key(database, None) is None, "the key was already printed"
    await revoke_key(database, key.split("_")[1], TESTS)
    assert await find_first_key(database, None) is None, "a restart offers no new first key"


async def test_the_first_key_comes_from_a_file_or_goes_into_it(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    brought, written = tmp_path / "brought", tmp_path / "written"
    brought.write_text(f"{(key := ApiKey.generate()).text}\n")

    for file in (brought, brought, written, written):
        assert await find_first_key(database, file) is None

    assert execute(database_url, "SELECT count(*) FROM api_keys") == "2"
    assert KEY.fullmatch(written.read_text().strip())
    async with (
        serving(database_url, auth="required") as url,
        AsyncClient(base_url=url, timeout=30) as client,
    ):
        for text in (brought.read_text(), written.read_text()):
            assert (await client.get("/v1/keys", headers=bearing(text.strip()))).status_code == 200

    await revoke_key(database, key.id, TESTS)
    with pytest.raises(CannotStart, match="is wrong, revoked or expired: remove the file"):
        await find_first_key(database, brought)
    brought.write_text("changeme\n")
    with pytest.raises(CannotStart, match="holds no key: one is written iw_<id>_<secret>"):
        await find_first_key(database, brought)


async def test_up_beyond_loopback_gives_its_agent_a_key(temporary_root: Path) -> None:
    data_dir = temporary_root / "open"
    async with up(data_dir, "--host", "0.0.0.0") as running:
        [key] = KEY.findall(running.output)
        async with AsyncClient(base_url=running.url, headers=bearing(key), timeout=30) as client:

            async def has_come() -> bool:
                answer = await client.get("/v1/latest", params={"match": "node_load1"})
                assert answer.status_code == 200
                return bool(answer.json()["series"])

            await until(has_come)
            listed = (await client.get("/v1/keys")).json()["keys"]

    assert [one["scopes"] for one in listed] == [["write", "read", "admin"], ["write"]]
    assert stat.S_IMODE((data_dir / "agent.key").stat().st_mode) == 0o600

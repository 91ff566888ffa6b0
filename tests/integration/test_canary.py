"""Secrets are in no log, metric, document, answer or command line, whatever goes wrong."""

import asyncio
import base64
import os
import re
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import pytest
from commands import infrawatch
from conftest import execute
from database_proxy import DatabaseProxy, Road
from formats import ENCODE, FORMATS
from httpx import AsyncClient
from keys import a_key
from scripted_server import eventually
from slow_connections import connection
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from infrawatch.access.principal import SCOPES
from infrawatch.embedded.valkey import valkey_running

READY_WITHIN_S = 180
CANARY = "canary8aw3"
BODY_CANARY = f"{CANARY}body"
DATABASE_CANARY = f"{CANARY}database"
REFUSED = (401, 429)
WRONG_KEY = f"iw_{CANARY}_{CANARY * 4}"
TOO_LONG = "x" * 5_000


@dataclass
class Watched:
    """A server, with its log and its responses, except those to senders of bodies."""

    url: str
    key: str
    log: Path
    answers: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, **how: object) -> int:
        async with AsyncClient(base_url=self.url, timeout=60) as client:
            answer = await client.request(method, path, **how)  # type: ignore[arg-type]
        self.answers.append(f"{answer.headers}\n{answer.text}")
        return answer.status_code

    def bearing(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@asynccontextmanager
async def watching(
    directory: Path, variables: Mapping[str, str], key: str
) -> AsyncGenerator[Watched]:
    """Two workers that say all they can, at their most talkative."""
    log = directory / "said"
    own = {name: text for name, text in os.environ.items() if not name.startswith("INFRAWATCH_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "infrawatch", "serve", "--port", "0"),
            stdout=output,
            stderr=output,
            env=own | {f"INFRAWATCH_{name}": text for name, text in variables.items()},
        )
    try:
        await eventually(lambda: b"http://" in log.read_bytes(), within_s=READY_WITHIN_S)
        found = re.search(r"serves (http://\S+)", log.read_text())
        assert found is not None
        yield Watched(found[1].replace("localhost", "127.0.0.1"), key, log)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), READY_WITHIN_S)


async def test_no_secret_is_ever_disclosed(
    proxy: DatabaseProxy, database_url: str, temporary_root: Path, tmp_path: Path
) -> None:
    key = await a_key(database_url, *SCOPES)
    async with AsyncExitStack() as stack:
        redis_url = await stack.enter_async_context(valkey_running(temporary_root / CANARY))
        variables = {
            "DATABASE_URL": proxy.url,
            "REDIS_URL": redis_url,
            "AUTH": "required",
            "WORKERS": "2",
            "LOG_LEVEL": "debug",
            "WRITE_DEADLINE": "2s",
            "READ_DEADLINE": "2s",
        }
        watched = await stack.enter_async_context(watching(tmp_path, variables, key))
        secrets = {
            "the database's password": password_of(database_url),
            "Redis' password": password_of(redis_url),
            "a key": key.rpartition("_")[2],
            "a key as Basic sends it": base64.b64encode(f"anybody:{key}".encode()).decode(),
        }
        await misuse(watched)
        await fail(watched, proxy, database_url)
        for path in ("/metrics", "/openapi.json", "/asyncapi.json", "/readyz", "/v1/keys"):
            assert await watched.ask("GET", path, headers=watched.bearing()) == 200
        command_lines = all_command_lines()
    log = watched.log.read_text()

    assert "unexpected_error" in log  # it was made to fail, and it did tell
    for name, secret in {**secrets, "a wrong key": CANARY * 4}.items():
        assert secret not in log, name
        assert secret not in "\n".join(watched.answers), name
        assert secret not in command_lines, name
    for told in (log, *watched.answers[-5:], command_lines):
        assert BODY_CANARY not in told


async def misuse(watched: Watched) -> None:
    """Bring keys where they belong and where they do not, and bodies that are wrong."""
    right = watched.bearing()
    for bad in (WRONG_KEY, f"{watched.key}x", watched.key[:-1]):
        for headers in (
            {"authorization": f"Bearer {bad}"},
            {"x-api-key": bad},
            {"authorization": f"Token {bad}"},
            {"authorization": "Basic " + base64.b64encode(f"anybody:{bad}".encode()).decode()},
        ):
            assert await watched.ask("GET", "/v1/series?match=up", headers=headers) in REFUSED
        assert await watched.ask("POST", f"/write?u=a&p={bad}", content="up v=1") in REFUSED
        await open_websocket(watched, bad)
    assert await watched.ask("POST", f"/write?u=a&p={watched.key}", content="up v=1") == 204
    assert await watched.ask("GET", f"/v1/series?match={{&key={watched.key}", headers=right) == 422
    raw = f"GET / HTTP/1.1\r\nAuthorization: Bearer {watched.key}\r\nbroken\0\r\n\r\n"
    async with connection(watched.url, raw.encode()) as broken:
        watched.answers.append((await broken.rest()).decode())
    for known in FORMATS:
        encoding = known.encodings[0]
        headers = {"content-type": known.content_type, "content-encoding": encoding, **right}
        good = known.make(BODY_CANARY)
        for body in (good, good[:-3], known.make(BODY_CANARY + TOO_LONG), good * 2, b"\0" + good):
            async with AsyncClient(base_url=watched.url, timeout=60) as client:
                content = ENCODE[encoding](body)
                answer = await client.post(known.path, content=content, headers=headers)
            assert answer.status_code < 500


async def open_websocket(watched: Watched, key: str) -> None:
    url = watched.url.replace("http", "ws", 1) + "/v1/live"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers={"authorization": f"Bearer {key}"}, proxy=None):
            pytest.fail("it was let in")
    watched.answers.append(str(refused.value.response))


async def fail(watched: Watched, proxy: DatabaseProxy, database_url: str) -> None:
    """Interrupt the database in several ways, and break its schema."""
    known = FORMATS[0]
    headers = {"content-type": known.content_type, **watched.bearing()}
    query = "/v1/latest?match=up"

    async def push() -> int:
        content = known.make(BODY_CANARY)
        return await watched.ask("POST", known.path, content=content, headers=headers)

    proxy.close()
    assert await push() == 503
    assert await watched.ask("GET", query, headers=headers) == 503
    proxy.road = Road.SILENT
    assert await push() == 503
    proxy.close()
    proxy.road = Road.OPEN
    async with asyncio.timeout(READY_WITHIN_S):
        while await watched.ask("GET", "/readyz") != 200:  # in both workers, sooner or later
            pass
        while await watched.ask("GET", query, headers=headers) != 200:
            pass
    execute(database_url, "ALTER TABLE series RENAME TO hidden")
    for method, path, content in (("GET", query, ""), ("POST", "/write", f"{BODY_CANARY} v=1")):
        status = 503
        while status == 503:  # a worker may hold connections that broke before
            status = await watched.ask(method, path, content=content, headers=headers)
        assert status == 500
    execute(database_url, "ALTER TABLE hidden RENAME TO series")
    assert await watched.ask("GET", query, headers=headers) == 200


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password
    return password


def all_command_lines() -> str:
    """The output of `ps` for all users, except psql, which only tests start."""
    processes = psutil.process_iter(["name", "cmdline"])
    lines = [" ".join(one.info["cmdline"] or ()) for one in processes if one.info["name"] != "psql"]
    assert any("infrawatch serve" in line for line in lines)
    return "\n".join(lines)


@pytest.mark.parametrize("command", ["migrate", "doctor"])
def test_no_command_prints_an_invalid_password(database_url: str, command: str) -> None:
    parts = urlsplit(database_url)
    place = f"{parts.username}:{DATABASE_CANARY}@{parts.hostname}:{parts.port}"
    refused = urlunsplit(parts._replace(netloc=place))
    nonsense = f"postgresql://a:{DATABASE_CANARY}@[::1/x?sslmode=maybe"
    for url in (refused, nonsense):
        ran = infrawatch(command, url=url)

        assert ran.returncode != 0
        assert ran.stderr + ran.stdout
        assert DATABASE_CANARY not in ran.stdout + ran.stderr

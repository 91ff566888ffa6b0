"""Commands that cannot run here say in a sentence what is wrong, where, and what to do."""

import asyncio
import socket
from urllib.parse import urlsplit

import pytest
from commands import infrawatch
from serving_live import live_server
from typer.testing import CliRunner

from infrawatch.cli.commands import app
from infrawatch.cli.database import check_schema
from infrawatch.cli.options import read_settings
from infrawatch.errors import CannotStart
from infrawatch.server.serving import listen
from infrawatch.settings import Settings


async def test_a_database_that_cannot_be_reached_is_named(unused_port: int) -> None:
    with pytest.raises(CannotStart) as refused:
        await check_schema(f"postgresql://me:secret@127.0.0.1:{unused_port}/metrics")

    assert str(refused.value) == (
        f"The database at 127.0.0.1:{unused_port} cannot be reached: Connection refused. "
        "Check INFRAWATCH_DATABASE_URL, and that its server runs."
    )


async def test_a_database_that_is_not_there_is_reported_as_such(database_url: str) -> None:
    elsewhere = urlsplit(database_url)._replace(path="/nowhere").geturl()
    with pytest.raises(CannotStart, match="it has no database of that name"):
        await check_schema(elsewhere)


async def test_an_empty_database_is_reported_with_the_command_that_helps(
    database_url: str,
) -> None:
    empty = urlsplit(database_url)._replace(path="/postgres").geturl()
    with pytest.raises(
        CannotStart, match=r"no tables of InfraWatch yet\. Run `infrawatch migrate`"
    ):
        await check_schema(empty)


def test_a_wrong_setting_is_named_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotStart, match=r"^--port: it should be less than or equal to 65535$"):
        read_settings(Settings, port=99_999)
    monkeypatch.setenv("INFRAWATCH_PORT", "http")
    with pytest.raises(CannotStart, match=r"^INFRAWATCH_PORT: it should be a valid integer$"):
        read_settings(Settings)


def test_a_redis_without_a_scheme_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRAWATCH_REDIS_URL", "cache:6379")
    with pytest.raises(CannotStart, match="_REDIS_URL: write it as redis://host:6379"):
        read_settings(Settings)


def test_an_address_that_is_not_of_this_machine_is_refused_in_a_sentence() -> None:
    settings = Settings(host="nowhere.invalid", auth="required", _env_file=None)
    with pytest.raises(CannotStart) as refused:
        listen(settings)
    assert str(refused.value).count("(") == 1


@pytest.mark.parametrize(
    ("typed", "hint"), [("upp", "Did you mean 'up'?"), ("key", "Did you mean 'keys'?")]
)
def test_the_nearest_command_is_suggested(typed: str, hint: str) -> None:
    tried = CliRunner().invoke(app, [typed])
    assert tried.exit_code == 2
    assert f"No such command '{typed}'. {hint}" in tried.output


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_watch_without_a_key_says_how_to_give_it_one(database_url: str) -> None:
    async with live_server(database_url, auth="required") as url:
        refused = await asyncio.to_thread(infrawatch, "watch", "m", "--url", url)
    assert refused.returncode == 1
    assert refused.stderr.endswith("Name the file that holds it with --key-file.\n")
    assert refused.stderr.count("\n") == 1

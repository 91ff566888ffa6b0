"""What sessions of tests leave in memory when they are killed."""

from pathlib import Path

from conftest import PREFIX, locked_directory, remove_what_killed_sessions_left


def test_what_a_killed_session_left_is_removed_and_what_another_uses_is_not(tmp_path: Path) -> None:
    used, left = tmp_path / f"{PREFIX}used", tmp_path / f"{PREFIX}left"
    used.mkdir()
    (left / "session" / "postgres").mkdir(parents=True)

    with locked_directory(used):
        remove_what_killed_sessions_left(tmp_path)

    assert [*tmp_path.iterdir()] == [used]

"""The spool: a real SQLite file, killed, filled, damaged and shared."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from spooling import closed_spools  # noqa: F401  # used by every test

from infrawatch.agent.batches import Body
from infrawatch.agent.spool import DROPPED, Batch, Loss, Spool, Usage
from infrawatch.errors import CannotStart

MIB = 1024 * 1024

WRITE_AND_WAIT = """
import sys
from pathlib import Path
from infrawatch.agent.batches import Body
from infrawatch.agent.spool import Spool

spool = Spool.open(Path(sys.argv[1]), limit_bytes=1 << 20)
spool.add(Body(1, b"%d" % number) for number in range(100))
spool.settle(spool.next_batches(10, max_samples=100), refused={"too_old": 3})
print("written", flush=True)
sys.stdin.read()
"""


def test_batches_are_taken_oldest_first_and_always_include_the_newest(
    tmp_path: Path,
) -> None:
    spool = opened(tmp_path)
    spool.add(body(number) for number in range(10))

    assert bodies(spool.next_batches(1, max_samples=100)) == [b"9"]
    assert bodies(spool.next_batches(4, max_samples=100)) == [b"0", b"1", b"2", b"9"]
    assert bodies(spool.next_batches(99, max_samples=100)) == [b"%d" % n for n in range(10)]
    assert bodies(spool.next_batches(99, max_samples=3)) == [b"0", b"1", b"9"]
    assert bodies(spool.next_batches(99, max_samples=0)) == [b"9"]


def test_an_empty_spool_has_nothing_to_send(tmp_path: Path) -> None:
    assert opened(tmp_path).next_batches(10, max_samples=100) == []


def test_settled_batches_are_removed(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add(body(number) for number in range(5))
    spool.settle(spool.next_batches(3, max_samples=100), refused={})

    assert bodies(spool.next_batches(99, max_samples=100)) == [b"2", b"3"]
    assert spool.usage == Usage(2, 2, 2)


def test_parts_take_the_place_of_a_batch(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add([Body(2, b"ab")])
    [whole] = spool.next_batches(1, max_samples=100)
    spool.replace(whole, [Body(1, b"a"), Body(1, b"b")])

    assert bodies(spool.next_batches(99, max_samples=100)) == [b"a", b"b"]
    assert spool.usage == Usage(2, 2, 2)


def test_everything_is_there_after_kill_9(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)

    spool = opened(tmp_path)
    assert bodies(spool.next_batches(999, max_samples=999)) == [b"%d" % n for n in range(9, 99)]
    assert spool.lost_samples == {Loss("refused", "too_old"): 3}


def test_the_oldest_batches_make_room_and_are_counted_permanently(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=1000)
    spool.add(Body(7, b"%03d" % number * 100) for number in range(10))

    assert spool.usage == Usage(batches=3, samples=21, bytes=900)
    assert bodies(spool.next_batches(99, max_samples=100))[0].startswith(b"007")
    assert spool.lost_samples[DROPPED] == 49
    spool.close()
    assert opened(tmp_path, limit_bytes=1000).lost_samples[DROPPED] == 49


def test_settling_a_batch_that_was_dropped_meanwhile_removes_no_other(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=100)
    spool.add([Body(1, b"a" * 100)])
    under_way = spool.next_batches(1, max_samples=100)
    spool.add([Body(1, b"b" * 100)])
    spool.settle(under_way, refused={})

    assert bodies(spool.next_batches(1, max_samples=100)) == [b"b" * 100]
    assert spool.usage == Usage(1, 1, 100)


def test_a_second_agent_is_refused_and_pointed_to_another_directory(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(CannotStart, match="--spool-dir"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"file/spool.*--spool-dir"):
        opened(tmp_path / "file" / "spool")


@pytest.mark.parametrize("damaged_from", [0, 4096])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damaged_from: int) -> None:
    spool = opened(tmp_path)
    spool.add(Body(1, bytes(5000)) for _ in range(10))
    spool.close()
    file = tmp_path / "spool.sqlite3"
    damaged = file.read_bytes()[:damaged_from].ljust(40_000, b"x")
    file.write_bytes(damaged)

    spool = opened(tmp_path)
    spool.add([body(1)])
    assert spool.usage.batches == 1
    assert (tmp_path / "spool.sqlite3.damaged").read_bytes() == damaged


def test_a_full_disk_leaves_the_newest_batches_to_be_sent_from_memory(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add([body(0)])
    fill_up(spool)
    spool.add(Body(1, b"%02d" % number * 5000) for number in range(20))

    held = spool.next_batches(99, max_samples=999)
    assert [batch.body[:2] for batch in held] == [b"%02d" % number for number in range(8, 20)]
    assert spool.usage.batches == 13
    assert spool.lost_samples[DROPPED] == 8

    spool.settle(held[:6], refused={"too_old": 2})
    assert spool.next_batches(99, max_samples=999) == held[6:]
    spool.settle(held[6:], refused={})
    assert bodies(spool.next_batches(99, max_samples=999)) == [b"0"]


def test_losses_during_a_full_disk_are_recorded_afterwards(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    fill_up(spool)
    spool.add(Body(1, bytes(5000)) for _ in range(20))
    spool._connection.execute("PRAGMA max_page_count = 100000")
    spool.add([body(1)])
    spool.close()

    assert opened(tmp_path).lost_samples[DROPPED] == 8


def test_a_disk_that_takes_no_changes_keeps_what_was_sent(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add([body(1)])
    batches = spool.next_batches(1, max_samples=100)
    spool._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(sqlite3.Error):
        spool.settle(batches, refused={"too_old": 1})

    assert spool.next_batches(1, max_samples=100) == batches
    assert spool.usage == Usage(1, 1, 1)
    assert not spool.lost_samples


def test_a_drained_spool_gives_its_space_back(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit_bytes=64 * MIB)
    spool.add(Body(1, bytes(MIB)) for _ in range(16))
    while batches := spool.next_batches(4, max_samples=100):
        spool.settle(batches, refused={})
    spool.close()

    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < MIB


def opened(directory: Path, *, limit_bytes: int = MIB) -> Spool:
    return Spool.open(directory, limit_bytes=limit_bytes)


def body(number: int) -> Body:
    return Body(1, b"%d" % number)


def bodies(batches: list[Batch]) -> list[bytes]:
    return [batch.body for batch in batches]


def fill_up(spool: Spool) -> None:
    """Let SQLite say "database or disk is full" as soon as the file would have to grow."""
    [pages] = spool._connection.execute("PRAGMA page_count").fetchone()
    spool._connection.execute(f"PRAGMA max_page_count = {pages}")

"""`infrawatch password`: the administrator's password, for the dashboard."""

import sys
from getpass import getpass
from pathlib import Path

from infrawatch.access.login.passwords import check_length, remove_password, set_password
from infrawatch.cli.database import calling_user, migrated_database
from infrawatch.cli.options import DataDir
from infrawatch.cli.running import command_group, run_until_stopped
from infrawatch.errors import CannotStart, InvalidInput

password = command_group("Set or remove the administrator's password for the dashboard.")


@password.command("set")
def set_it(data_dir: DataDir = None) -> None:
    """Ask for the password, or read it from a pipe. Sessions of the previous password end."""
    run_until_stopped(_set(data_dir, _ask()))


@password.command()
def remove(data_dir: DataDir = None) -> None:
    """Remove the password, and end the sessions that were begun with it."""
    run_until_stopped(_remove(data_dir))


async def _set(data_dir: Path | None, chosen: str) -> None:
    async with migrated_database(data_dir) as database:
        await set_password(database, chosen, calling_user())
    print("The password is set; whoever signed in with another is signed out.")


async def _remove(data_dir: Path | None) -> None:
    async with migrated_database(data_dir) as database:
        await remove_password(database, calling_user())
    print("There is no password any more; whoever signed in with it is signed out.")


def _ask() -> str:
    """Return a password of acceptable length, which has to be typed twice at a terminal.

    Raises:
        CannotStart: its length is not acceptable, or the two differ.
    """
    try:
        if not sys.stdin.isatty():
            return check_length(sys.stdin.readline().rstrip("\r\n"))
        chosen = check_length(getpass("The new password: "))
    except InvalidInput as error:
        raise CannotStart(f"{str(error).capitalize()}.") from None
    if getpass("Once more: ") != chosen:
        raise CannotStart("The two passwords differ; nothing was changed. Try again.")
    return chosen

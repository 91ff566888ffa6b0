"""The first key: without it, no others could be created over the network."""

from infrawatch.access.keys.provisioning import find_first_key
from infrawatch.settings import Settings
from infrawatch.store.database import Database


async def print_first_key(url: str, settings: Settings) -> None:
    """Print an admin key if keys are required and none with that scope was ever created.

    With INFRAWATCH_ADMIN_KEY_FILE, the key is in that file instead, and nothing is printed.
    """
    if settings.authentication != "required":
        return
    async with Database.open(url, write_pool_size=1) as database:
        key = await find_first_key(database, settings.admin_key_file)
    if key is not None:
        print(
            "The first key, which may write, read and administrate. It is shown this once; "
            f"`infrawatch keys` makes others and revokes it:\n  {key.text}",
            flush=True,
        )

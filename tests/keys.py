"""Keys for tests, made as the command makes them."""

from infrawatch.access.keys.changes import KeySpec, create_key
from infrawatch.access.principal import DEFAULT_TENANT_ID, Scope
from infrawatch.access.tenants import create_tenant
from infrawatch.store.accounts.audit import Actor
from infrawatch.store.database import Database

TESTS = Actor("tests")

OWN_PAGE = {"X-Requested-With": "tests"}
"""What a program sends with a session's cookie; a browser's Origin says the same."""


async def a_key(
    database_url: str,
    *scopes: Scope,
    tenant_id: int = DEFAULT_TENANT_ID,
    name: str = "a test's",
) -> str:
    async with Database.open(database_url, write_pool_size=1) as database:
        return (await create_key(database, KeySpec(tenant_id, name, scopes), TESTS)).text


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def a_tenant(database_url: str, name: str) -> int:
    """The id of a new tenant."""
    async with Database.open(database_url, write_pool_size=1) as database:
        return (await create_tenant(database, name, TESTS)).id

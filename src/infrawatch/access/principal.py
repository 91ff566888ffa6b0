"""Who is asking: every route takes a `Principal`, every store call carries its tenant."""

from typing import Annotated, NamedTuple

from fastapi import Depends

DEFAULT_TENANT_ID = 1
"""The tenant a fresh install has; the migration creates it under this id."""


class Principal(NamedTuple):
    """On whose behalf a request is made."""

    tenant_id: int


async def current_principal() -> Principal:  # FastAPI runs plain functions in a thread
    """With authentication off, everybody is the default tenant."""
    return Principal(DEFAULT_TENANT_ID)


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]

"""Transactions that change access: what they do is in the audit trail, and in the log."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from infrawatch.store.accounts.audit import Act, Actor, AuditRepository
from infrawatch.store.database import Database

log = structlog.get_logger()


class AuditedTransaction:
    """An open transaction, and what its actor does in it."""

    def __init__(self, connection: AsyncConnection, actor: Actor) -> None:
        self.connection = connection
        self.actor = actor
        self.acts: list[Act] = []

    async def record(self, act: Act) -> None:
        """Record an act in the audit trail."""
        await AuditRepository(self.connection).add(self.actor, act)
        self.acts.append(act)


@asynccontextmanager
async def audited(database: Database, actor: Actor) -> AsyncGenerator[AuditedTransaction, None]:
    """Open a transaction, as `Database.writing` does; its acts are logged once it is committed."""
    async with database.writing() as connection:
        transaction = AuditedTransaction(connection, actor)
        yield transaction
    for act in transaction.acts:
        log.info("audit", actor=str(actor), action=act.action, target=act.target)

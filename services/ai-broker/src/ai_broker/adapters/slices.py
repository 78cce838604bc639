"""What was lent to whom, and what tenants have limits on, on SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from ai_broker.adapters.tables import ATTEMPT, PROFILE, SLICE, attempt_of
from ai_broker.domain.attempt import Attempt
from ai_broker.domain.budget import Lent, Profile
from contracts.budgets import ScopeKind
from persistence.database import Database
from persistence.tables import dialect_of, insert_into

ATTEMPTS_MAX: Final = 100_000


class SqlSlices:
    """
    The slices that all replicas of this store hold.

    Args:
        database: The broker's store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, lent: Lent) -> None:
        """Write a slice down, before it is asked for."""
        values = {
            "lease_id": lent.lease_id,
            "tenant": lent.tenant,
            "instance": lent.instance,
            "until": lent.until,
            "is_closed": False,
        }
        await self._database.run(lambda conn: conn.execute(insert(SLICE), values))

    async def close(self, lease_id: str) -> Sequence[Attempt]:
        """Let nothing be reserved under a lease any more; return its attempts."""

        def transaction(conn: Connection) -> Sequence[Attempt]:
            # The lock first: an attempt under way is counted, or finds it closed.
            conn.execute(
                update(SLICE).where(SLICE.c.lease_id == lease_id).values(is_closed=True)
            )
            rows = conn.execute(
                select(ATTEMPT)
                .where(ATTEMPT.c.lease_id == lease_id)
                .limit(ATTEMPTS_MAX)
            )
            return [attempt_of(row) for row in rows]

        return await self._database.run(transaction)

    async def due(self, instance: str, before: datetime, limit: int) -> Sequence[Lent]:
        """Return closed slices of an instance, and anybody's that ended before."""
        query = (
            select(SLICE)
            .where(
                or_(
                    and_(SLICE.c.is_closed, SLICE.c.instance == instance),
                    SLICE.c.until < before,
                )
            )
            .order_by(SLICE.c.until, SLICE.c.lease_id)
            .limit(limit)
        )
        return await self._database.read(
            lambda conn: [
                Lent(row.lease_id, row.tenant, row.instance, row.until)
                for row in conn.execute(query)
            ]
        )

    async def forget(self, lease_id: str) -> None:
        """Forget a slice that was returned for good, or never lent."""
        statement = delete(SLICE).where(SLICE.c.lease_id == lease_id)
        await self._database.run(lambda conn: conn.execute(statement))

    async def profile(self, tenant: str) -> Profile | None:
        """Return what a tenant was last known to have limits on."""
        query = select(PROFILE).where(PROFILE.c.tenant == tenant)
        row = await self._database.read(lambda conn: conn.execute(query).first())
        return None if row is None else Profile(_kinds(row.limited), _kinds(row.hard))

    async def note(self, tenant: str, profile: Profile) -> None:
        """Remember what a tenant has limits on."""
        values = {"limited": _text(profile.limited), "hard": _text(profile.hard)}

        def transaction(conn: Connection) -> None:
            statement = insert_into(PROFILE, dialect_of(conn))
            conn.execute(
                statement.values(tenant=tenant, **values).on_conflict_do_update(
                    index_elements=["tenant"], set_=values
                )
            )

        await self._database.run(transaction)


def _text(kinds: frozenset[ScopeKind]) -> str:
    return " ".join(sorted(kinds))


def _kinds(text: str) -> frozenset[ScopeKind]:
    return frozenset(map(ScopeKind, text.split()))

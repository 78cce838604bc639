"""Tenants' own vendor keys on SQL; only ever sealed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select, tuple_, update

from ai_broker.adapters.tables import VENDOR_CREDENTIAL
from ai_broker.domain.credential import Credential, Sealed
from persistence.database import Database
from persistence.tables import dialect_of, insert_into

_KEY = (VENDOR_CREDENTIAL.c.tenant, VENDOR_CREDENTIAL.c.vendor)


class SqlCredentials:
    """
    Where sealed keys are.

    Args:
        database: The broker's store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, credential: Credential) -> None:
        """Keep a key in the place of an earlier one."""
        values = _values(credential)

        def write(conn: Connection) -> None:
            statement = insert_into(VENDOR_CREDENTIAL, dialect_of(conn)).values(values)
            conn.execute(
                statement.on_conflict_do_update(index_elements=_KEY, set_=values)
            )

        await self._database.run(write)

    async def remove(self, tenant: str, vendor: str) -> bool:
        """Forget a key; False when there was none."""
        statement = delete(VENDOR_CREDENTIAL).where(
            VENDOR_CREDENTIAL.c.tenant == tenant, VENDOR_CREDENTIAL.c.vendor == vendor
        )
        return await self._database.run(
            lambda conn: conn.execute(statement).rowcount == 1
        )

    async def of(self, tenant: str) -> Sequence[Credential]:
        """Return a tenant's keys, by vendor."""
        query = (
            select(VENDOR_CREDENTIAL)
            .where(VENDOR_CREDENTIAL.c.tenant == tenant)
            .order_by(VENDOR_CREDENTIAL.c.vendor)
        )
        return await self._database.read(
            lambda conn: [_credential(row) for row in conn.execute(query)]
        )

    async def sealed_otherwise(
        self, kek_id: str, after: tuple[str, str], limit: int
    ) -> Sequence[Credential]:
        """Return keys sealed under another KEK, past this tenant and vendor."""
        query = (
            select(VENDOR_CREDENTIAL)
            .where(VENDOR_CREDENTIAL.c.kek_id != kek_id, tuple_(*_KEY) > after)
            .order_by(*_KEY)
            .limit(limit)
        )
        return await self._database.read(
            lambda conn: [_credential(row) for row in conn.execute(query)]
        )

    async def reseal(self, changes: Sequence[tuple[Credential, Sealed]]) -> int:
        """Replace seals that nobody changed meanwhile; return how many."""

        def write(conn: Connection) -> int:
            return sum(
                conn.execute(
                    update(VENDOR_CREDENTIAL)
                    .where(
                        VENDOR_CREDENTIAL.c.tenant == was.tenant,
                        VENDOR_CREDENTIAL.c.vendor == was.vendor,
                        VENDOR_CREDENTIAL.c.sealed == was.sealed.data,
                    )
                    .values(kek_id=sealed.kek_id, sealed=sealed.data)
                ).rowcount
                for was, sealed in changes
            )

        return await self._database.run(write)


def _values(credential: Credential) -> dict[str, object]:
    return {
        "tenant": credential.tenant,
        "vendor": credential.vendor,
        "kek_id": credential.sealed.kek_id,
        "sealed": credential.sealed.data,
        "fingerprint": credential.fingerprint,
        "last4": credential.last4,
        "created_at": credential.created_at,
    }


# Any: SQLAlchemy's rows are typed by their statement, not by their table.
def _credential(row: Row[Any]) -> Credential:
    return Credential(
        tenant=row.tenant,
        vendor=row.vendor,
        sealed=Sealed(row.kek_id, row.sealed),
        fingerprint=row.fingerprint,
        last4=row.last4,
        created_at=row.created_at,
    )

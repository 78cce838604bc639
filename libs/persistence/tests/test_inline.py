"""What the simulation relies on beyond the common promises."""

import pytest
from sqlalchemy import Connection, MetaData, Table, func, select

from faults import TransientFault
from persistence.database import InlineDatabase


async def test_committed_state_survives_a_crash(
    metadata: MetaData, account: Table
) -> None:
    """The next incarnation finds what was committed; the old one is dead."""
    old = InlineDatabase.create(metadata)
    await old.run(lambda conn: insert(conn, account, "a"))
    new = old.reopen()
    with pytest.raises(TransientFault, match="incarnation has ended"):
        await old.run(lambda conn: insert(conn, account, "b"))
    with pytest.raises(TransientFault, match="incarnation has ended"):
        await old.check()
    assert await new.read(lambda conn: count(conn, account)) == 1
    assert new.store_id == old.store_id


async def test_crash_places_surround_the_commit(
    metadata: MetaData, account: Table
) -> None:
    """A crash at ``begin`` leaves nothing; one at ``committed`` leaves everything."""
    crash_at = "begin"

    async def around(moment: str) -> None:
        if moment == crash_at:
            raise InterruptedError(moment)

    database = InlineDatabase.create(metadata, around=around)
    with pytest.raises(InterruptedError):
        await database.run(lambda conn: insert(conn, account, "a"))
    assert await database.read(lambda conn: count(conn, account)) == 0
    crash_at = "committed"
    with pytest.raises(InterruptedError):
        await database.run(lambda conn: insert(conn, account, "a"))
    assert await database.read(lambda conn: count(conn, account)) == 1


async def test_stores_are_apart(metadata: MetaData, account: Table) -> None:
    """Two stores in one process share nothing."""
    first, second = InlineDatabase.create(metadata), InlineDatabase.create(metadata)
    await first.run(lambda conn: insert(conn, account, "a"))
    assert await second.read(lambda conn: count(conn, account)) == 0


def insert(conn: Connection, account: Table, account_id: str) -> None:
    """Insert one account."""
    conn.execute(account.insert(), {"id": account_id, "balance": 1, "version": 1})


def count(conn: Connection, account: Table) -> int:
    """Count the accounts."""
    return conn.execute(select(func.count()).select_from(account)).scalar_one()

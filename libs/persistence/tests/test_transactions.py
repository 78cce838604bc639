"""What a transaction promises on every store."""

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from faults import TransientFault
from persistence.database import Database
from persistence.versions import StaleVersion, update_versioned


def put(conn: Connection, account: Table, account_id: str, balance: int = 1) -> None:
    """Insert one account at version 1."""
    row = {"id": account_id, "balance": balance, "version": 1}
    conn.execute(account.insert(), row)


async def ids(database: Database, account: Table) -> set[str]:
    """Read which accounts are committed."""
    return await database.read(
        lambda conn: set(conn.execute(select(account.c.id)).scalars())
    )


async def test_result_is_returned_and_committed(
    database: Database, account: Table
) -> None:
    """What the closure returns comes back, and a later read sees what it wrote."""

    def transaction(conn: Connection) -> str:
        put(conn, account, "a")
        return "done"

    assert await database.run(transaction) == "done"
    assert await ids(database, account) == {"a"}


async def test_error_undoes_the_whole_closure(
    database: Database, account: Table
) -> None:
    """A closure that raises leaves nothing behind, and its error reaches its caller."""

    def transaction(conn: Connection) -> None:
        put(conn, account, "a")
        raise KeyError("decided otherwise")

    with pytest.raises(KeyError, match="decided otherwise"):
        await database.run(transaction)
    assert await ids(database, account) == set()


async def test_violated_constraint_stays_an_integrity_error(
    database: Database, account: Table
) -> None:
    """A constraint is the closure's author's to handle, outside and inside."""
    await database.run(lambda conn: put(conn, account, "a"))
    with pytest.raises(IntegrityError):
        await database.run(lambda conn: put(conn, account, "a"))

    def tolerant(conn: Connection) -> bool:
        put(conn, account, "b")
        try:
            with conn.begin_nested():
                put(conn, account, "a")
        except IntegrityError:
            return False
        return True

    assert not await database.run(tolerant)
    assert await ids(database, account) == {"a", "b"}


async def test_closures_run_one_by_one_without_loss(
    database: Database, account: Table
) -> None:
    """Many callers at once: each version is used once, and losers are told."""
    await database.run(lambda conn: put(conn, account, "a", balance=0))

    def increment(conn: Connection) -> None:
        query = select(account.c.balance, account.c.version)
        balance, version = conn.execute(query.where(account.c.id == "a")).one()
        values = {"balance": balance + 1}
        update_versioned(conn, account, {"id": "a"}, version, values)

    async def insist() -> None:
        for _ in range(200):
            try:
                return await database.run(increment)
            except StaleVersion:
                continue
        pytest.fail("the version never held still")

    await asyncio.gather(*(insist() for _ in range(20)))
    balance = select(account.c.balance, account.c.version)
    row = await database.read(lambda conn: conn.execute(balance).one())
    assert tuple(row) == (20, 21)


async def test_stale_version_changes_nothing(
    database: Database, account: Table
) -> None:
    """Saving over a version that moved on is refused as a transient fault."""
    await database.run(lambda conn: put(conn, account, "a", balance=1))

    def stale(conn: Connection) -> None:
        update_versioned(conn, account, {"id": "a"}, 7, {"balance": 99})

    with pytest.raises(StaleVersion, match="no longer at version 7"):
        await database.run(stale)
    balance = select(account.c.balance)
    assert await database.read(lambda conn: conn.execute(balance).scalar_one()) == 1


async def test_read_cannot_write(database: Database, account: Table) -> None:
    """A query that writes fails and leaves nothing."""
    with pytest.raises(DBAPIError):
        await database.read(lambda conn: put(conn, account, "a"))
    assert await ids(database, account) == set()
    await database.run(lambda conn: put(conn, account, "b"))
    assert await ids(database, account) == {"b"}


async def test_read_sees_one_snapshot(database: Database, account: Table) -> None:
    """Two statements of one query agree, whatever is committed around them."""

    def count_twice(conn: Connection) -> tuple[int, int]:
        count = select(func.count()).select_from(account)
        return conn.execute(count).scalar_one(), conn.execute(count).scalar_one()

    writes = [
        database.run(lambda conn, n=n: put(conn, account, str(n))) for n in range(20)
    ]
    reads = [database.read(count_twice) for _ in range(20)]
    counted = (await asyncio.gather(asyncio.gather(*writes), asyncio.gather(*reads)))[1]
    assert all(first == second for first, second in counted)


async def test_values_come_back_as_they_went(
    database: Database, account: Table, now: datetime
) -> None:
    """Instants keep their microseconds and JSON its shape; zones become UTC."""
    elsewhere = now.astimezone(timezone(timedelta(hours=8)))
    note = {"lines": [1, 2.5, None, "ä€"], "deep": {"yes": True}}
    row = {"id": "a", "balance": 2**62, "version": 1}

    def transaction(conn: Connection) -> None:
        values = {**row, "opened_at": elsewhere, "note": note}
        conn.execute(account.insert(), values)

    await database.run(transaction)
    found = await database.read(lambda conn: conn.execute(select(account)).one())
    assert found.opened_at == now
    assert found.opened_at.utcoffset() == timedelta(0)
    assert found.note == note
    assert found.balance == 2**62


async def test_naive_time_is_refused(database: Database, account: Table) -> None:
    """A datetime without a zone is a mistake, and named as one."""
    row = {"id": "a", "balance": 1, "version": 1}
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the mistake under test

    def transaction(conn: Connection) -> None:
        conn.execute(account.insert(), {**row, "opened_at": naive})

    with pytest.raises(Exception, match="has no time zone"):
        await database.run(transaction)


async def test_check_passes_on_a_healthy_store(database: Database) -> None:
    """A migrated store that answers is ready, and has an identity."""
    await database.check()
    assert database.store_id


async def test_closed_store_refuses_as_transient(
    database: Database, account: Table
) -> None:
    """Work that comes after the end is refused, to be done by another replica."""
    await database.close()
    if database.dialect == "sqlite":
        with pytest.raises(TransientFault, match="closed"):
            await database.run(lambda conn: put(conn, account, "a"))
